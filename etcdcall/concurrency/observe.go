package concurrency

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	v3 "go.etcd.io/etcd/client/v3"
)

// Observe returns a channel of the leaders' proclamations: first the present
// leader, if there is one, then each change, in order. Each response has one key
// value, that of the leader. A reader that is slow holds the observation up; what
// it does not miss thereby depends on the buffer of the client's watch.
//
// The observation rides out whatever breaks it, and then goes on with the present
// leader. The channel closes when ctx or the client ends, and at no other time.
func (e *Election) Observe(ctx context.Context) <-chan *v3.GetResponse {
	return e.observe(ctx, false)
}

// ObserveVacancy is [Election.Observe] that also reports when nobody leads: by a
// response without key values, at the beginning too.
func (e *Election) ObserveVacancy(ctx context.Context) <-chan *v3.GetResponse {
	return e.observe(ctx, true)
}

func (e *Election) observe(ctx context.Context, vacancy bool) <-chan *v3.GetResponse {
	o := &observer{out: make(chan *v3.GetResponse), vacancy: vacancy}
	ctx, stop := context.WithCancel(ctx)
	o.done = ctx.Done()
	unhook := context.AfterFunc(e.session.client.Ctx(), stop)
	all := []v3.OpOption{v3.WithPrefix()}
	go func() {
		defer close(o.out)
		defer stop()
		defer unhook()
		follow(ctx, e.session.client, followed{key: e.prefix, watch: all, get: all}, o)
	}()
	return o.out
}

// observer follows the candidates of an election and hands on its leaders.
type observer struct {
	out     chan *v3.GetResponse
	done    <-chan struct{}
	vacancy bool

	candidates map[string]*mvccpb.KeyValue
	begun      bool
	leader     *mvccpb.KeyValue // as handed on last, nil if nobody led
}

// restarted implements follower.
func (o *observer) restarted(snapshot *v3.GetResponse) {
	o.candidates = make(map[string]*mvccpb.KeyValue, len(snapshot.Kvs))
	for _, kv := range snapshot.Kvs {
		o.candidates[string(kv.Key)] = kv
	}
	o.look(snapshot.Header)
}

// moved implements follower.
func (o *observer) moved(batch *v3.WatchResponse) {
	for i, ev := range batch.Events {
		if ev.Type == v3.EventTypeDelete {
			delete(o.candidates, string(ev.Kv.Key))
		} else {
			o.candidates[string(ev.Kv.Key)] = ev.Kv
		}
		// What one transaction has changed is seen as a whole.
		if i+1 == len(batch.Events) || batch.Events[i+1].Kv.ModRevision != ev.Kv.ModRevision {
			o.look(headerAt(batch.Header, ev.Kv.ModRevision))
		}
	}
}

// look hands on the leader if that is news.
func (o *observer) look(header *pb.ResponseHeader) {
	leader := first(o.candidates)
	news := !o.begun || leader.GetCreateRevision() != o.leader.GetCreateRevision() || leader.GetModRevision() != o.leader.GetModRevision()
	o.begun, o.leader = true, leader
	resp := &v3.GetResponse{Header: header}
	switch {
	case !news || leader == nil && !o.vacancy:
		return
	case leader != nil:
		resp.Kvs, resp.Count = []*mvccpb.KeyValue{leader}, 1
	}
	select {
	case o.out <- resp:
	case <-o.done:
	}
}

// first returns the candidate that was created first.
func first(candidates map[string]*mvccpb.KeyValue) *mvccpb.KeyValue {
	var leader *mvccpb.KeyValue
	for _, kv := range candidates {
		if leader == nil || kv.CreateRevision < leader.CreateRevision {
			leader = kv
		}
	}
	return leader
}

func headerAt(h *pb.ResponseHeader, rev int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: h.GetClusterId(), MemberId: h.GetMemberId(), RaftTerm: h.GetRaftTerm(), Revision: rev}
}
