# ptp4l in a is the master, ptp4l in b follows and steers clock B: what this lab resolves, what we are measured by.
# With four cards c delays: forward=US backward=US.
[ -z "$PHC_C" ] || link_through "$(arg forward 500)" "$(arg backward 100)"
set_clocks
start_ptp4l master a eth0 "$GRANDMASTER"
# A millisecond: the delaying link now and then holds a Sync for longer than the default.
start_ptp4l slave b eth1 "slaveOnly 1" "step_threshold 0.001" "first_step_threshold 0.00002"
judge --phc b="$PHC_B"
