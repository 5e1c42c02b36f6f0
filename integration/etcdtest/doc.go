// Package etcdtest runs a real etcd cluster inside the process, and breaks it
// on command. It is for testing programs that talk to etcd: what happens to
// them when the leader dies, a link is cut, or the server applies a write and
// its response is lost.
//
// A cluster has one member or several, is ready within a fraction of a
// second, and listens on loopback only. Each member stands behind a client
// [Link] and a peer [Link] of its own, whose addresses stay the same when the
// member is killed and started again:
//
//	func TestPutSurvivesTheLeader(t *testing.T) {
//		c := etcdtest.New(t, etcdtest.WithMembers(3))
//		cli := c.Client(t)
//
//		leader, err := c.WaitLeader(t.Context())
//		if err != nil {
//			t.Fatal(err)
//		}
//		if err := leader.Kill(); err != nil {
//			t.Fatal(err)
//		}
//		if _, err := cli.Get(t.Context(), "key"); err != nil {
//			t.Fatal(err)
//		}
//	}
//
// # Faults
//
//   - of a member: [Member.Kill], [Member.Stop], [Member.Restart];
//   - of the leadership: [Cluster.MoveLeader];
//   - between members: [Cluster.Isolate], [Cluster.CutPeers], healed by
//     [Cluster.HealPeers];
//   - between clients and a member, of whatever call: the methods of [Link];
//   - of the next calls of one method: [Cluster.Inject], which withholds,
//     replaces, resets or delays what the server answers, before or after the
//     request was applied.
//
// What is true whatever the network does is read through [Member.Truth], a
// client that calls the server's functions in the process.
//
// # What it is not
//
// Members run without fsync and share one process, so Kill is the death of a
// server and not the loss of power: what the member wrote to its file system
// is there after a restart. Clocks, disks and CPUs cannot be made to fail.
// The package is not for serving data to anybody else.
package etcdtest
