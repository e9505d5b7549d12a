# ptp4l in a is the grandmaster, ptp4l in c a boundary clock on two cards, and in b follows it follower=agent|ptp4l.
# The boundary clock announces what it has from above, and says nothing of its own hidden error: hidden_ns=NS.
set_clocks
start_ptp4l master a eth0 "$GRANDMASTER"
ptp4l_config "boundary_clock_jbod 1" "step_threshold 0.001" "[eth2]" \
    "[eth3]" "$(shifted_by "$(arg hidden_ns 20000)")" >/tmp/between.conf
start between in_ns c ptp4l -f /tmp/between.conf
# Each of its cards has a clock: the one below follows the one above.
start cards phc2sys -s "$PHC_C" -c "$PHC_D" -O 0 -R 8 -S 0.001 -m -u 8
case $(arg follower agent) in
    ptp4l)
        start_ptp4l slave b eth1 "slaveOnly 1" "step_threshold 0.001" "first_step_threshold 0.00002"
        judge --phc b="$PHC_B" --phc c="$PHC_C" --phc d="$PHC_D"
        ;;
    agent)
        start_agent b "$(ptp_table eth1 slave)"
        judge --page /run/b/bound --phc c="$PHC_C" --phc d="$PHC_D"
        report_agent b
        ;;
esac
