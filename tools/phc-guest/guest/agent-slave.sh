# ptp4l in a is a grandmaster, our agent in b follows. Nobody steers clock B, but with phc=steer our agent does; with
# discipline=system it steers the guest's CLOCK_REALTIME, which is an hour off.
# With four cards c delays: forward=US backward=US. The grandmaster may lie: lie_ns=NS.
[ -z "$PHC_C" ] || link_through "$(arg forward 500)" "$(arg backward 100)"
set_clocks
start_ptp4l master a eth0 "$GRANDMASTER" "$(shifted_by "$(arg lie_ns 0)")"
start_agent b "$(ptp_table eth1 slave)" "phc = \"$(arg phc free)\""
set --
[ "$(arg phc free)" != steer ] || set -- --phc b="$PHC_B"
[ "$(arg discipline observe)" != system ] || set -- "$@" --realtime
judge --page /run/b/bound "$@"
report_agent b
