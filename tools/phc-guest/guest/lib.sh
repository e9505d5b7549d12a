# Sourced by init: words for scenarios.

# 2026-01-01T01:00:37 TAI: an hour after what the guest's system clock says, so that nobody is right by chance.
TRUE_TAI_S=1767229237

# Busybox's shell would prefer its own.
ip() { /bin/ip "$@"; }
tc() { /bin/tc "$@"; }

# The value of a word of the command line: arg KEY DEFAULT
arg() {
    for word in $(cat /proc/cmdline); do
        case $word in "$1="*) echo "${word#*=}"; return ;; esac
    done
    echo "$2"
}

in_ns() {
    ns=$1
    shift
    ip netns exec "$ns" "$@"
}

# wait_for WHAT CONDITION...: the condition is evaluated anew each time
wait_for() {
    what=$1
    shift
    tries=0
    until eval "$*"; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "guest: waited in vain for $what"; poweroff -f; }
        sleep 0.1
    done
}

phc_of() {
    for name in $(ls "/sys/class/net/$1/device/ptp"); do echo "/dev/$name"; done
}

# add_namespace NAME CARD...
add_namespace() {
    namespace=$1
    shift
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    for card in "$@"; do
        ip link set "$card" netns "$namespace"
        ip -n "$namespace" link set "$card" up
    done
}

# add_host NAMESPACE CARD NUMBER
add_host() {
    add_namespace "$1" "$2"
    ip -n "$1" address add "10.0.0.$3/24" dev "$2"
    ip -n "$1" address add "fd00::$3/64" dev "$2" nodad
}

# Namespace c joins the two wires: every frame that comes in on one leaves on the other, so much later.
# link_through DELAY_A_TO_B DELAY_B_TO_A, in microseconds
link_through() {
    for pair in "eth2 eth3 $1" "eth3 eth2 $2"; do
        set -- $pair
        ip -n c link set "$1" promisc on
        tc -n c qdisc add dev "$2" root netem delay "${3}us"
        tc -n c qdisc add dev "$1" clsact
        tc -n c filter add dev "$1" ingress matchall action mirred egress redirect dev "$2"
    done
}

# Clock A is true; it runs fast of the guest's own by 20 ppm. The others start seconds off.
set_clocks() {
    phc-judge set "$PHC_A" "$TRUE_TAI_S"
    phc-judge freq "$PHC_A" "$(arg detune_ppb 20000)"
    phc-judge set "$PHC_B" $((TRUE_TAI_S + 4))
    [ -z "$PHC_C" ] || phc-judge set "$PHC_C" $((TRUE_TAI_S - 3))
}

# Runs a program in the background, its lines marked: start MARK PROGRAM...
start() {
    mark=$1
    shift
    "$@" 2>&1 | sed "s/^/$mark: /" &
}

# Their last words belong to the console, and a card without a carrier would be their last complaint.
stop_all() {
    killall truebound ptp4l phc2sys 2>/dev/null
    wait
}

# A ptp4l: start_ptp4l MARK NAMESPACE CARD LINE...; the lines go to its configuration
start_ptp4l() {
    mark=$1 namespace=$2 card=$3
    shift 3
    ptp4l_config "$@" >"/tmp/$mark.conf"
    start "$mark" in_ns "$namespace" ptp4l -f "/tmp/$mark.conf" -i "$card"
}

ptp4l_config() {
    case $(arg transport ethernet) in
        ethernet) transport=L2 ;;
        udp4) transport=UDPv4 ;;
        udp6) transport=UDPv6 ;;
    esac
    cat <<CONFIG
[global]
network_transport $transport
delay_mechanism $(arg delay e2e | tr a-z A-Z)
logAnnounceInterval 0
logSyncInterval -3
logMinDelayReqInterval -3
logMinPdelayReqInterval -3
tx_timestamp_timeout 100
summary_interval 0
use_syslog 0
verbose 1
CONFIG
    printf '%s\n' "$@"
}

# What a grandmaster with a primary reference says of itself: 100 ns.
GRANDMASTER="clockClass 6
clockAccuracy 0x21
priority1 10"

# All that a port sends and receives is stamped so much late: its clock is wrong, and it does not know. shifted_by NS
shifted_by() {
    echo "egressLatency $1"
    echo "ingressLatency $((-$1))"
}

# An agent in a namespace: start_agent NAMESPACE LINE...; its page is /run/NAMESPACE/bound
start_agent() {
    namespace=$1
    shift
    mkdir -p "/run/$namespace"
    agent_config "$@" >"/tmp/$namespace.toml"
    start agent in_ns "$namespace" truebound run --config "/tmp/$namespace.toml"
    wait_for "the agent's page" [ -e "/run/$namespace/bound" ]
}

# The guest's oscillator is the emulator's count of instructions: as steady as a crystal, but the kernel cannot know.
agent_config() {
    cat <<CONFIG
runtime-dir = "/run/$namespace"
[clock]
oscillator = "xo"
discipline = "$(arg discipline observe)"
CONFIG
    printf '%s\n' "$@"
}

# The [[ptp]] table of an agent on a card, in the transport and by the delay mechanism of the scenario.
ptp_table() {
    cat <<CONFIG
[[ptp]]
interface = "$1"
role = "$2"
transport = "$(arg transport ethernet)"
delay = "$(arg delay e2e)"
announce-interval = "1s"
sync-interval = "125ms"
delay-interval = "125ms"
stamp-error = "10ns"
remote-stamp-error = "10ns"
CONFIG
}

# What the agent in a namespace says of itself at the end.
report_agent() {
    truebound status --runtime-dir "/run/$1"
    truebound status --runtime-dir "/run/$1" --json | tr -d " " | grep -o "\"missing_[rt]x_stamps\":[0-9]*"
}

# Judges until the time is over: judge [--page PAGE] [--phc NAME=DEVICE]...
judge() {
    phc-judge watch --truth "$PHC_A" --seconds "$(arg seconds 30)" --settle "$(arg settle 10)" "$@"
}
