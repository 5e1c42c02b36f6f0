// Package drill runs the same workload through Reprise and through plain
// clientv3 while the cluster under them is broken in the same way, and judges
// from etcd's own history what became of every write.
//
// The two sides run one after the other, each on a cluster of its own: side by
// side they would share the processors, and the faults of one would slow the
// other. The seed decides what is called when, on which key, and which fault
// strikes when; calls are offered at fixed times whether or not earlier ones
// have ended, so that a side that answers late is not offered less.
package drill
