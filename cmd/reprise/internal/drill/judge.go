package drill

import (
	"cmp"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/check"
)

// A Judgement is what etcd's history says of the calls of a side. All of it
// should be zero.
type Judgement struct {
	Missing      int `json:"acknowledged_writes_missing"`  // acknowledged, and not in the history
	Twice        int `json:"writes_applied_twice"`         // in the history more than once, whatever their caller was told
	AppliedFails int `json:"failed_writes_applied"`        // said not to have been applied, and in the history
	WrongReads   int `json:"reads_against_the_history"`    // of a value that the key did not have at that revision
	StaleReads   int `json:"reads_older_than_known_state"` // of a state older than one somebody had been told of before
}

// judge compares what callers were told with the history of their prefix,
// which must be complete.
func judge(list []call, log *check.Log) Judgement {
	var j Judgement
	times := make(map[string]int) // how often a value was written
	states := make(map[string][]*clientv3.Event)
	for _, e := range log.Events {
		key := string(e.Kv.Key)
		states[key] = append(states[key], e)
		if e.Type == clientv3.EventTypePut {
			times[string(e.Kv.Value)]++
		}
	}
	for _, c := range list {
		if !c.write {
			if c.acked {
				j.read(c, states[c.key])
			}
			continue
		}
		n := times[c.value]
		if n > 1 {
			j.Twice++
		}
		if c.acked && n == 0 {
			j.Missing++
		}
		if !c.acked && c.outcome == etcdcall.NotApplied && n > 0 {
			j.AppliedFails++
		}
	}
	return j
}

func (j *Judgement) read(c call, states []*clientv3.Event) {
	if c.rev < c.floor {
		j.StaleReads++
	}
	// The state at the answer's revision is what the last change up to it left.
	i, found := slices.BinarySearchFunc(states, c.rev, func(e *clientv3.Event, rev int64) int {
		return cmp.Compare(e.Kv.ModRevision, rev)
	})
	if found {
		i++
	}
	want := ""
	if i > 0 && states[i-1].Type == clientv3.EventTypePut {
		want = string(states[i-1].Kv.Value)
	}
	if c.value != want {
		j.WrongReads++
	}
}
