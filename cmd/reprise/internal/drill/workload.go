package drill

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/check"
)

// A workload goes on beside the calls, from before the faults until the cluster
// is whole again, with the same clients.
type workload interface {
	// begin starts it in the background. It ends with ctx.
	begin(ctx context.Context, st *stage)
	// quiesce ends what it writes.
	quiesce(ctx context.Context)
	// settle waits until it has caught up with the history, whose last
	// revision is until, or gives up with ctx, and ends it.
	settle(ctx context.Context, until int64)
	// report judges it by the history and the calls, and notes the result.
	report(log *check.Log, list []call, result *Side)
}

// stage is what a workload works with.
type stage struct {
	clients  []*clientv3.Client
	keys     string        // prefix of the keys whose history is judged
	contests string        // prefix of locks and elections
	first    int64         // the revision after which the calls came
	start    time.Time     // of the side
	begun    time.Duration // when workloads began, since then
}

// workloads returns new ones, for one side.
func workloads(c Contender) []workload {
	return []workload{
		&watchers{},
		&contest{name: "lock", sit: c.Sit, pick: func(s *seat) contender { return s.lock }},
		&contest{name: "election", sit: c.Sit, pick: func(s *seat) contender { return s.election }},
	}
}
