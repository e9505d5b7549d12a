# ptp4l in a is a grandmaster, our agent in b follows. Nobody steers clock B, but with phc=steer our agent does.
# With four cards c delays: forward=US backward=US. The grandmaster may lie: lie_ns=NS.
[ -z "$PHC_C" ] || link_through "$(arg forward 500)" "$(arg backward 100)"
set_clocks
start_ptp4l master a eth0 "$GRANDMASTER" "$(shifted_by "$(arg lie_ns 0)")"
start_agent b "$(ptp_table eth1 slave)" "phc = \"$(arg phc free)\""
if [ "$(arg phc free)" = steer ]; then judge --page /run/b/bound --phc b="$PHC_B"; else judge --page /run/b/bound; fi
report_agent b
