package drill

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/check"
)

// history makes a log in which the values are written to one key, one after
// the other, from revision 2 on. An empty value is a deletion.
func history(values ...string) *check.Log {
	log := &check.Log{}
	for i, v := range values {
		e := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte(v), ModRevision: int64(i) + 2}}
		if v == "" {
			e.Type = clientv3.EventTypeDelete
		}
		log.Events = append(log.Events, e)
	}
	return log
}

func acked(v string) call { return call{write: true, key: "k", value: v, acked: true} }

func failed(v string, o etcdcall.Outcome) call {
	return call{write: true, key: "k", value: v, outcome: o}
}

func read(v string, rev, floor int64) call {
	return call{key: "k", value: v, rev: rev, floor: floor, acked: true}
}

func TestTheJudgeFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls []call
		log   *check.Log
		want  Judgement
	}{
		"nothing":                        {nil, history(), Judgement{}},
		"an acknowledged write":          {[]call{acked("a")}, history("a"), Judgement{}},
		"an acknowledged write missing":  {[]call{acked("a"), acked("b")}, history("b"), Judgement{Missing: 1}},
		"applied twice":                  {[]call{acked("a"), acked("b")}, history("a", "b", "a"), Judgement{Twice: 1}},
		"unknown and applied":            {[]call{failed("a", etcdcall.Unknown)}, history("a"), Judgement{}},
		"unknown and not applied":        {[]call{failed("a", etcdcall.Unknown)}, history(), Judgement{}},
		"unknown and applied twice":      {[]call{failed("a", etcdcall.Unknown)}, history("a", "a"), Judgement{Twice: 1}},
		"failed as it said":              {[]call{failed("a", etcdcall.NotApplied)}, history(), Judgement{}},
		"failed and applied after all":   {[]call{failed("a", etcdcall.NotApplied)}, history("a"), Judgement{AppliedFails: 1}},
		"a read between two writes":      {[]call{read("a", 2, 2), read("b", 3, 0)}, history("a", "b"), Judgement{}},
		"a read before anything":         {[]call{read("", 1, 0)}, history("a"), Judgement{}},
		"a read after changes elsewhere": {[]call{read("b", 9, 0)}, history("a", "b"), Judgement{}},
		"a read of a deleted key":        {[]call{read("", 3, 0)}, history("a", ""), Judgement{}},
		"a read of what was deleted":     {[]call{read("a", 3, 0)}, history("a", ""), Judgement{WrongReads: 1}},
		"a read of the wrong value":      {[]call{read("a", 3, 0)}, history("a", "b"), Judgement{WrongReads: 1}},
		"a read of the past":             {[]call{read("a", 2, 3)}, history("a", "b"), Judgement{StaleReads: 1}},
		"a read that failed":             {[]call{{key: "k", value: "", rev: 0, floor: 3}}, history("a"), Judgement{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(c.calls, c.log); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
