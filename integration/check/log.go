package check

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Log is every change of the keys with a prefix, in the order in which etcd
// made them. Changes of one transaction have the same revision.
type Log struct {
	Prefix string
	Events []*clientv3.Event
}

// ReadLog reads the changes of the keys with a prefix, from revision from to
// revision until, both included; one of the changes must be of revision until,
// which is that of a key with the prefix written last. Nothing may have been
// compacted since from. The member that w talks to is believed, so that it
// should be one that nobody lies about: see etcdtest's Member.Truth.
func ReadLog(ctx context.Context, w clientv3.Watcher, prefix string, from, until int64) (*Log, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := &Log{Prefix: prefix}
	if from > until {
		return log, nil
	}
	for r := range w.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if err := r.Err(); err != nil {
			return nil, fmt.Errorf("check: read the history of %q: %w", prefix, err)
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision > until {
				return log, nil
			}
			log.Events = append(log.Events, e)
		}
		if n := len(log.Events); n > 0 && log.Events[n-1].Kv.ModRevision >= until {
			return log, nil
		}
	}
	return nil, fmt.Errorf("check: read the history of %q: %w", prefix, errors.Join(context.Cause(ctx), errors.New("the watch ended")))
}
