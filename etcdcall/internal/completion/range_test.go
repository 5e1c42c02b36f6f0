package completion

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestARangeIsAnsweredAsAServerDoes(t *testing.T) {
	t.Parallel()
	const descend, ascend = pb.RangeRequest_DESCEND, pb.RangeRequest_ASCEND
	for name, test := range map[string]struct {
		req  *pb.RangeRequest
		want string // the keys
		more bool
	}{
		"all":                              {&pb.RangeRequest{}, "abcd", false},
		"a limit":                          {&pb.RangeRequest{Limit: 2}, "ab", true},
		"a limit that is not reached":      {&pb.RangeRequest{Limit: 4}, "abcd", false},
		"keys, descending":                 {&pb.RangeRequest{SortOrder: descend}, "dcba", false},
		"values":                           {&pb.RangeRequest{SortOrder: ascend, SortTarget: pb.RangeRequest_VALUE}, "dbca", false},
		"versions":                         {&pb.RangeRequest{SortOrder: ascend, SortTarget: pb.RangeRequest_VERSION}, "badc", false},
		"creations":                        {&pb.RangeRequest{SortOrder: ascend, SortTarget: pb.RangeRequest_CREATE}, "cdab", false},
		"changes, descending":              {&pb.RangeRequest{SortOrder: descend, SortTarget: pb.RangeRequest_MOD}, "bacd", false},
		"a limit to what is sorted":        {&pb.RangeRequest{SortOrder: descend, Limit: 2}, "dc", true},
		"a limit before an implied order":  {&pb.RangeRequest{SortTarget: pb.RangeRequest_VALUE, Limit: 1}, "b", true},
		"changed late":                     {&pb.RangeRequest{MinModRevision: 13}, "ab", false},
		"changed early":                    {&pb.RangeRequest{MaxModRevision: 12}, "cd", false},
		"created between":                  {&pb.RangeRequest{MinCreateRevision: 2, MaxCreateRevision: 3}, "ad", false},
		"a limit to what passes a filter":  {&pb.RangeRequest{MaxModRevision: 12, Limit: 1}, "c", true},
		"a limit that a filter leaves off": {&pb.RangeRequest{MinModRevision: 14, Limit: 1}, "b", false},
	} {
		all := []*mvccpb.KeyValue{
			{Key: []byte("a"), Value: []byte("4"), Version: 2, CreateRevision: 3, ModRevision: 13},
			{Key: []byte("b"), Value: []byte("2"), Version: 1, CreateRevision: 4, ModRevision: 14},
			{Key: []byte("c"), Value: []byte("3"), Version: 4, CreateRevision: 1, ModRevision: 12},
			{Key: []byte("d"), Value: []byte("1"), Version: 3, CreateRevision: 2, ModRevision: 11},
		}
		resp := answerRange(slices.Clone(all), test.req)
		var got string
		for _, kv := range resp.GetKvs() {
			got += string(kv.GetKey())
		}
		if got != test.want || resp.GetMore() != test.more || resp.GetCount() != 4 {
			t.Errorf("%s: got %q of %d, more %v; want %q, more %v", name, got, resp.GetCount(), resp.GetMore(), test.want, test.more)
		}
	}
	keysOnly := answerRange([]*mvccpb.KeyValue{{Key: []byte("k"), Value: []byte("v")}}, &pb.RangeRequest{KeysOnly: true})
	if counted := answerRange(keysOnly.GetKvs(), &pb.RangeRequest{CountOnly: true}); counted.GetCount() != 1 || len(counted.GetKvs()) > 0 || keysOnly.GetKvs()[0].GetValue() != nil {
		t.Errorf("keys alone: %v; a count: %v", keysOnly, counted)
	}
}
