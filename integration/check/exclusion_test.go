package check_test

import (
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/check"
)

func hold(holder string, token, rev int64, from, until int) check.Hold {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	return check.Hold{Holder: holder, Token: token, Revision: rev, From: at(from), Until: at(until)}
}

func share(holder string, from, until int) check.Hold {
	h := hold(holder, 0, 0, from, until)
	h.Shared = true
	return h
}

func wrote(key, value string, create, mod int64) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{
		Key: []byte(key), Value: []byte(value), CreateRevision: create, ModRevision: mod,
	}}
}

func removed(key string, mod int64) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: mod}}
}

func TestExclusiveCatchesTwoHolders(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		holds []check.Hold
		fine  bool
	}{
		"none":                     {nil, true},
		"one after another":        {[]check.Hold{hold("b", 3, 4, 2, 3), hold("a", 2, 2, 1, 2)}, true},
		"overlap":                  {[]check.Hold{hold("a", 2, 2, 1, 3), hold("b", 3, 4, 2, 4)}, false},
		"token not greater":        {[]check.Hold{hold("a", 3, 3, 1, 2), hold("b", 3, 4, 2, 4)}, false},
		"while a long one goes on": {[]check.Hold{hold("a", 2, 2, 1, 9), hold("b", 3, 4, 2, 3), hold("c", 4, 4, 4, 5)}, false},
		"readers share":            {[]check.Hold{share("a", 1, 3), share("b", 2, 4), hold("c", 2, 2, 4, 5), share("a", 5, 6)}, true},
		"a writer beside a reader": {[]check.Hold{share("a", 1, 5), share("b", 2, 3), hold("c", 2, 2, 4, 6)}, false},
		"a reader beside a writer": {[]check.Hold{hold("c", 2, 2, 1, 3), share("a", 2, 4)}, false},
		"writers among readers":    {[]check.Hold{hold("c", 3, 2, 1, 2), share("a", 2, 3), hold("c", 2, 2, 3, 4)}, false},
		"token goes back":          {[]check.Hold{hold("a", 3, 3, 1, 2), hold("b", 2, 4, 2, 4)}, false},
	} {
		if err := check.Exclusive(test.holds); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGrantedAndFencedCatchWhatTheStoreDoesNotBearOut(t *testing.T) {
	t.Parallel()
	log := &check.Log{Events: []*clientv3.Event{
		wrote("l/a", "", 2, 2), wrote("l/b", "", 3, 3), wrote("x", "2", 4, 4), removed("l/a", 5), wrote("x", "3", 4, 6), removed("l/b", 7),
	}}
	for name, test := range map[string]struct {
		hold check.Hold
		fine bool
	}{
		"first":         {hold("a", 2, 2, 1, 2), true},
		"first, later":  {hold("a", 2, 4, 1, 2), true},
		"second":        {hold("b", 3, 5, 1, 2), true},
		"too early":     {hold("b", 3, 4, 1, 2), false},
		"too late":      {hold("a", 2, 5, 1, 2), false},
		"nobody's time": {hold("b", 3, 8, 1, 2), false},
	} {
		if err := check.Granted(log, "l/", []check.Hold{test.hold}); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check.Fenced(log, "l/", "x"); err != nil {
		t.Error(err)
	}
	for name, late := range map[string]*clientv3.Event{"a past holder": wrote("x", "2", 4, 6), "nobody": wrote("x", "3", 4, 8)} {
		if check.Fenced(&check.Log{Events: append(log.Events[:4:4], log.Events[5], late)}, "l/", "x") == nil && name == "nobody" {
			t.Errorf("%s wrote", name)
		}
		if check.Fenced(&check.Log{Events: append(log.Events[:4:4], late)}, "l/", "x") == nil && name != "nobody" {
			t.Errorf("%s wrote", name)
		}
	}
}

func TestConservedCatchesASumThatChanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		events []*clientv3.Event
		fine   bool
	}{
		"transfers":         {[]*clientv3.Event{wrote("a/1", "5", 2, 2), wrote("a/2", "5", 2, 2), wrote("a/1", "3", 2, 3), wrote("a/2", "7", 2, 3), wrote("b", "x", 4, 4)}, true},
		"half a transfer":   {[]*clientv3.Event{wrote("a/1", "5", 2, 2), wrote("a/2", "5", 2, 2), wrote("a/1", "3", 2, 3), wrote("a/2", "7", 2, 4)}, false},
		"money from nobody": {[]*clientv3.Event{wrote("a/1", "10", 2, 2), wrote("a/2", "1", 3, 3)}, false},
		"deletion":          {[]*clientv3.Event{wrote("a/1", "10", 2, 2), removed("a/1", 3)}, false},
		"not a number":      {[]*clientv3.Event{wrote("a/1", "ten", 2, 2)}, false},
	} {
		if err := check.Conserved(&check.Log{Events: test.events}, "a/", 10); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}
