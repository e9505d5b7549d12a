# Our agent in a is the master, its card's clock is the truth; ptp4l in b follows and steers clock B.
set_clocks
start_agent a "$(ptp_table eth0 master)" 'priority1 = 10' '[[source]]' "phc = \"$PHC_A\"" 'error = "10ns"' 'timescale = "tai"'
start_ptp4l slave b eth1 "slaveOnly 1" "step_threshold 0.001" "first_step_threshold 0.00002"
judge --page /run/a/bound --phc b="$PHC_B"
report_agent a
