package drill

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/reprise-go/reprise/etcdcall"
)

// A call is one call of a workload, and what came of it.
type call struct {
	write bool
	key   string
	value string // what was written or found

	faulty  bool          // offered while faults were to strike
	due     time.Duration // when it was offered, since the side began
	end     time.Duration
	sends   int   // attempts that were sent or tried
	acked   bool  // it succeeded
	rev     int64 // the revision of the answer
	floor   int64 // the newest revision that anybody was told of before it began
	outcome etcdcall.Outcome
	err     error
}

// calls gathers the calls of a side.
type calls struct {
	offered, acked, failed atomic.Int64
	newest                 atomic.Int64 // the newest revision anybody was told of

	mu   sync.Mutex
	list []call
}

// add takes a call that has ended.
func (cc *calls) add(c call) {
	if c.acked {
		cc.acked.Add(1)
		for now := cc.newest.Load(); now < c.rev; now = cc.newest.Load() {
			if cc.newest.CompareAndSwap(now, c.rev) {
				break
			}
		}
	} else {
		cc.failed.Add(1)
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	cc.list = append(cc.list, c)
}

func (cc *calls) count() Count {
	return Count{Offered: cc.offered.Load(), Acknowledged: cc.acked.Load(), Failed: cc.failed.Load()}
}
