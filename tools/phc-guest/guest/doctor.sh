# What the doctor says of a card with a clock: alone, and beside a ptp4l that uses it.
diagnose() { echo "$1: $(in_ns b truebound doctor eth1 --json | tr -d '\n')"; }
diagnose alone
start_ptp4l rival b eth1 "slaveOnly 1"
wait_for "the rival's port" in_ns b grep -q ":013F" /proc/net/udp
diagnose beside
# The judge ends every scenario: of a clock that nobody reads.
judge
