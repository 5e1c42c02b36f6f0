package etcdcall

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/reprise-go/reprise"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// kvWrites are the methods of KV that change the store, each with its call.
var kvWrites = []struct {
	name, method string
	call         func(ctx context.Context, kv clientv3.KV) error
}{
	{"Put", pb.KV_Put_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Put(ctx, "k", "v")
		return err
	}},
	{"Delete", pb.KV_DeleteRange_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Delete(ctx, "k")
		return err
	}},
	{"Do with a put", pb.KV_Put_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Do(ctx, clientv3.OpPut("k", "v"))
		return err
	}},
	{"Do with a Txn", pb.KV_Txn_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Do(ctx, clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("k", "v")}, nil))
		return err
	}},
	{"Txn", pb.KV_Txn_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Version("k"), "=", 0)).Then(clientv3.OpPut("k", "v")).Else(clientv3.OpGet("k")).Commit()
		return err
	}},
	{"Txn that writes in a Txn within", pb.KV_Txn_FullMethodName, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Txn(ctx).Else(clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpDelete("k")})).Commit()
		return err
	}},
}

// kvReads are the calls of KV that change nothing.
var kvReads = []struct {
	name, method string
	linearizable bool
	call         func(ctx context.Context, kv clientv3.KV) error
}{
	{"Get", pb.KV_Range_FullMethodName, true, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Get(ctx, "k")
		return err
	}},
	{"serializable Get", pb.KV_Range_FullMethodName, false, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Get(ctx, "k", clientv3.WithSerializable())
		return err
	}},
	{"Do with a get", pb.KV_Range_FullMethodName, true, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Do(ctx, clientv3.OpGet("k"))
		return err
	}},
	{"Txn that only reads", pb.KV_Txn_FullMethodName, true, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Txn(ctx).Then(clientv3.OpGet("k"), clientv3.OpGet("l", clientv3.WithSerializable())).Commit()
		return err
	}},
	{"serializable Txn", pb.KV_Txn_FullMethodName, false, func(ctx context.Context, kv clientv3.KV) error {
		_, err := kv.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("l", clientv3.WithSerializable())}, nil)).Commit()
		return err
	}},
}

func TestAWriteIsSentAgainExactlyWhenItWasNotApplied(t *testing.T) {
	t.Parallel()
	failures := make([]error, 0, len(serverRules)+4)
	for i := range serverRules {
		r := &serverRules[i]
		code := codes.Unknown
		if r.server != nil {
			code = status.Code(r.server)
		}
		failures = append(failures, status.Error(code, r.message))
	}
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Internal, codes.Unknown} {
		failures = append(failures, status.Error(code, "from a hop"))
	}
	for _, w := range kvWrites {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, failure := range failures {
				checkWrite(t, w.method, w.call, failure)
			}
		})
	}
}

// checkWrite lets a server refuse the first call with failure.
func checkWrite(t *testing.T, method string, call func(context.Context, clientv3.KV) error, failure error) {
	t.Helper()
	s := startScripted(t, func(_ context.Context, method string, n int, _ any) (any, error) {
		if n == 1 {
			return nil, failure
		}
		return success(method), nil
	})
	cli := s.client(t)
	err := call(within5s(t), cli)
	r := classify(failure)
	wantCalls := 1
	if r.write == retry && (&policy{cli: cli}).allows(r) {
		wantCalls = 2
	}
	if got := s.count(method); got != wantCalls {
		t.Errorf("%v: the write was sent %d times, want %d", failure, got, wantCalls)
	}
	if wantCalls == 2 {
		if err != nil {
			t.Errorf("%v: the second attempt succeeded, the call returned %v", failure, err)
		}
		return
	}
	checkWriteError(t, method, err, failure, r)
}

func checkWriteError(t *testing.T, method string, err, failure error, r *rule) {
	t.Helper()
	if got := OutcomeOf(err); got != r.applied {
		t.Errorf("%v: outcome %v, want %v (%v)", failure, got, r.applied, err)
	}
	var a *AmbiguousError
	if isAmbiguous := errors.As(err, &a); isAmbiguous != (r.write == ambiguous) {
		t.Errorf("%v: got %T: %v", failure, err, err)
	} else if isAmbiguous && a.Method != method {
		t.Errorf("the error names %s, want %s", a.Method, method)
	}
	etcd, ok := rpctypes.Error(failure).(rpctypes.EtcdError) //nolint:errorlint // Error returns it unwrapped
	switch {
	case ok && !errors.Is(err, etcd):
		t.Errorf("errors.Is does not find %v in %v", etcd, err)
	case ok && r.applied == NotApplied && err != etcd: //nolint:errorlint // == is what is promised
		t.Errorf("a plain refusal came back as %T, not as clientv3 returns it", err)
	case !ok && status.Code(err) != status.Code(failure):
		t.Errorf("%v: the code became %v", failure, status.Code(err))
	}
}

func TestAReadRidesThroughEveryFailureThatMayPass(t *testing.T) {
	t.Parallel()
	for _, r := range kvReads {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := startScripted(t, func(_ context.Context, method string, n int, _ any) (any, error) {
				var passing []error
				for i := range serverRules {
					if rule := &serverRules[i]; rule.read == retry && rule.limit == 0 {
						passing = append(passing, status.Error(codes.Unknown, rule.message))
					}
				}
				for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Internal, codes.ResourceExhausted} {
					passing = append(passing, status.Error(code, "from a hop"))
				}
				if n <= len(passing) {
					return nil, passing[n-1]
				}
				return success(method), nil
			})
			if err := r.call(within5s(t), s.client(t)); err != nil {
				t.Errorf("after %d attempts: %v", s.count(r.method), err)
			}
		})
	}
}

func TestAReadThatIsRefusedReturnsThePlainEtcdError(t *testing.T) {
	t.Parallel()
	for _, r := range kvReads {
		s := startScripted(t, func(context.Context, string, int, any) (any, error) { return nil, rpctypes.ErrGRPCCompacted })
		err := r.call(within5s(t), s.client(t))
		if err != rpctypes.ErrCompacted || s.count(r.method) != 1 { //nolint:errorlint // == is what is promised
			t.Errorf("%s: %d attempts, %v (%T)", r.name, s.count(r.method), err, err)
		}
	}
}

func TestAfterTheDeadlineTheErrorSaysWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(ctx context.Context, _ string, _ int, _ any) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	cli := connected(t, s.client(t))
	var all sync.WaitGroup
	for _, w := range kvWrites {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			err := w.call(ctx, cli)
			var a *AmbiguousError
			if !errors.As(err, &a) || a.Method != w.method || OutcomeOf(err) != Unknown {
				t.Errorf("%s: got %T: %v", w.name, err, err)
			}
			// The server's own timer may go off a moment before the client's.
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%s: the deadline is not found in %v", w.name, err)
			}
		})
	}
	for _, r := range kvReads {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			err := r.call(ctx, cli)
			var stopped *reprise.Error
			if !errors.As(err, &stopped) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: got %T: %v", r.name, err, err)
			}
		})
	}
	all.Wait()
}

func TestAWriteThatWasNeverSentIsNotApplied(t *testing.T) {
	t.Parallel()
	// A port that was free a moment ago may be another test's by now.
	const refused = "127.0.0.1:1"
	silent := startSilent(t)
	for name, addr := range map[string]string{"refused": refused, "never answers the handshake": silent} {
		cli := newClient(t, clientv3.Config{Endpoints: []string{addr}})
		for _, w := range kvWrites {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
			err := w.call(ctx, cli)
			cancel()
			if err == nil || OutcomeOf(err) != NotApplied {
				t.Errorf("%s, %s: outcome %v of %v", name, w.name, OutcomeOf(err), err)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %s: the deadline is not found in %v", name, w.name, err)
			}
		}
	}
}

// startSilent accepts connections and never says a word.
func startSilent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestADeadContextMakesNoAttempt(t *testing.T) {
	t.Parallel()
	s := startScripted(t, func(_ context.Context, method string, _ int, _ any) (any, error) { return success(method), nil })
	cli := s.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, w := range kvWrites {
		err := w.call(ctx, cli)
		if !errors.Is(err, context.Canceled) || OutcomeOf(err) != NotApplied || s.count(w.method) != 0 {
			t.Errorf("%s: %d attempts, outcome %v of %v", w.name, s.count(w.method), OutcomeOf(err), err)
		}
	}
}

func TestOnlyCallsThatNeedALeaderAskForOne(t *testing.T) {
	t.Parallel()
	asked := func(t *testing.T, opts []Option, call func(context.Context, clientv3.KV) error) bool {
		var got []string
		s := startScripted(t, func(ctx context.Context, method string, _ int, _ any) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			got = md.Get(rpctypes.MetadataRequireLeaderKey)
			if user := md.Get("user-key"); len(user) != 1 {
				t.Errorf("%s: the caller's metadata arrived as %q", method, user)
			}
			return success(method), nil
		})
		ctx := metadata.AppendToOutgoingContext(within5s(t), "user-key", "value")
		if err := call(ctx, s.client(t, opts...)); err != nil {
			t.Error(err)
		}
		return len(got) == 1 && got[0] == rpctypes.MetadataHasLeader
	}
	off := []Option{WithoutRequireLeader()}
	for _, r := range kvReads {
		if got := asked(t, nil, r.call); got != r.linearizable {
			t.Errorf("%s asks for a leader: %v", r.name, got)
		}
		if asked(t, off, r.call) {
			t.Errorf("%s asks for a leader though that is off", r.name)
		}
	}
	for _, w := range kvWrites {
		if !asked(t, nil, w.call) {
			t.Errorf("%s does not ask for a leader", w.name)
		}
		if asked(t, off, w.call) {
			t.Errorf("%s asks for a leader though that is off", w.name)
		}
	}
}

func TestComparisonsAreCopiedWhole(t *testing.T) {
	t.Parallel()
	kinds := new(pb.Compare).ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	for i := range kinds.Len() {
		want := &pb.Compare{Result: pb.Compare_LESS, Target: pb.Compare_MOD, Key: []byte("a"), RangeEnd: []byte("b")}
		value := protoreflect.ValueOfInt64(7)
		if kinds.Get(i).Kind() == protoreflect.BytesKind {
			value = protoreflect.ValueOfBytes([]byte("v"))
		}
		want.ProtoReflect().Set(kinds.Get(i), value)
		before := proto.Clone(want)
		got := copied(want)
		if !proto.Equal(got, want) {
			t.Errorf("%v became %v", want, got)
		}
		for _, b := range [][]byte{got.Key, got.RangeEnd, got.GetValue()} {
			clear(b)
		}
		got.ProtoReflect().Clear(kinds.Get(i))
		if !proto.Equal(want, before) {
			t.Errorf("%v changed with its copy to %v", before, want)
		}
	}
}

// TestAComparisonIsThatOfWhenItWasGiven changes one after it was given to a
// transaction.
func TestAComparisonIsThatOfWhenItWasGiven(t *testing.T) {
	t.Parallel()
	asked := make(chan *pb.TxnRequest, 1)
	s := startScripted(t, func(_ context.Context, method string, _ int, req any) (any, error) {
		asked <- req.(*pb.TxnRequest)
		return success(method), nil
	})
	cli := newClient(t, clientv3.Config{Endpoints: []string{s.addr}})
	cmp := clientv3.Compare(clientv3.Version("key"), "=", 3)
	txn := cli.Txn(within5s(t)).If(cmp).Then(clientv3.OpPut("key", "value"))
	cmp.GetCompare().Key[0] = 'x'
	cmp.GetCompare().GetTargetUnion().(*pb.Compare_Version).Version = 4
	if _, err := txn.Commit(); err != nil {
		t.Fatal(err)
	}
	got := (<-asked).Compare
	if len(got) != 1 || string(got[0].Key) != "key" || got[0].GetVersion() != 3 {
		t.Errorf("asked for %v", got)
	}
}
