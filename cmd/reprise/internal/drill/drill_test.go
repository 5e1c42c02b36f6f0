package drill

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is a drill for a busy machine. Drills of three members run one after
// the other, since they judge how fast calls are answered.
func small() Config {
	return Config{Duration: time.Second, Seed: 1, Rate: 20, Clients: 2, Timeout: 3 * time.Second, ExactlyOnce: true}
}

func TestADrillStrikesWithEveryFaultAndReprisePasses(t *testing.T) {
	r, err := Run(t.Context(), small())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sides) != 2 {
		t.Fatalf("got %d sides", len(r.Sides))
	}
	for _, s := range r.Sides {
		for _, f := range Faults() {
			if s.Faults[f] == 0 {
				t.Errorf("%s: no fault of the kind %q", s.Name, f)
			}
		}
		if s.Calls == 0 || s.Acknowledged == 0 || s.Writes == 0 {
			t.Errorf("%s: nothing happened: %+v", s.Name, s)
		}
		if s.Watch.Events < s.Writes {
			t.Errorf("%s: watchers saw %d events, %d were written", s.Name, s.Watch.Events, s.Writes)
		}
		for name, c := range s.Contests {
			if c.Turns == 0 || c.Overlaps > 0 {
				t.Errorf("%s: %s: %+v, want turns that do not overlap", s.Name, name, c)
			}
		}
		if len(s.Contests) != 2 {
			t.Errorf("%s: %d contests, want a lock and an election", s.Name, len(s.Contests))
		}
		if got := s.Acknowledged + s.Ambiguous + s.Failed; got != s.Calls {
			t.Errorf("%s: %d calls ended, %d were offered", s.Name, got, s.Calls)
		}
		for err, n := range s.Errors {
			if strings.Contains(err, context.Canceled.Error()) {
				t.Errorf("%s: %d calls were cut before their deadline: %s", s.Name, n, err)
			}
		}
	}
	if j := r.Sides[0].Judgement; j != (Judgement{}) {
		t.Errorf("%s: %+v, want nothing wrong", r.Sides[0].Name, j)
	}
}

func TestExactlyOnceWritesLeaveNothingOpen(t *testing.T) {
	cfg := small()
	cfg.Timeout = 20 * time.Second
	r, err := run(t.Context(), cfg, contenders(&cfg)[:1])
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Sides[0]; s.Ambiguous > 0 || s.Failed > 0 || s.Judgement != (Judgement{}) {
		t.Errorf("got %+v, want every call acknowledged", s)
	}
}

// brokenKV is a client that does what must not be done.
type brokenKV struct {
	clientv3.KV
	put func(ctx context.Context, do func(context.Context) (*clientv3.PutResponse, error)) (*clientv3.PutResponse, error)
}

func (b brokenKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	return b.put(ctx, func(ctx context.Context) (*clientv3.PutResponse, error) { return b.KV.Put(ctx, key, value, opts...) })
}

// blindly sends a write again after every error.
func blindly(ctx context.Context, do func(context.Context) (*clientv3.PutResponse, error)) (*clientv3.PutResponse, error) {
	return reprise.Do(ctx, do, reprise.WithRetry(func() reprise.Retryer {
		return reprise.OnErrorFunc(reprise.Backoff{Initial: 5 * time.Millisecond}, func(error) bool { return true })
	}))
}

// hopefully takes a write for done whatever the server says.
func hopefully(ctx context.Context, do func(context.Context) (*clientv3.PutResponse, error)) (*clientv3.PutResponse, error) {
	if r, err := do(ctx); err == nil {
		return r, nil
	}
	return &clientv3.PutResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
}

func misbehaving(name string, put func(context.Context, func(context.Context) (*clientv3.PutResponse, error)) (*clientv3.PutResponse, error)) Contender {
	return Contender{Name: name, Sit: sitWithClientv3, Connect: func(cfg clientv3.Config, _ string) (*clientv3.Client, error) {
		cfg.MaxUnaryRetries = 1
		cli, err := clientv3.New(cfg)
		if err == nil {
			cli.KV = brokenKV{cli.KV, put}
		}
		return cli, err
	}}
}

// A short drill loses few responses, so a broken client may be lucky in one.
func TestADrillExposesBrokenClients(t *testing.T) {
	const drills = 5
	blind, hopeful := false, false
	for seed := uint64(1); seed <= drills && (!blind || !hopeful); seed++ {
		cfg := small()
		cfg.Seed = seed
		r, err := run(t.Context(), cfg, []Contender{misbehaving("blind", blindly), misbehaving("hopeful", hopefully)})
		if err != nil {
			t.Fatal(err)
		}
		if twice := r.Sides[0].Judgement.Twice > 0; twice {
			blind = true
			if r.OK {
				t.Error("writes were applied twice, and the drill was passed")
			}
		}
		hopeful = hopeful || r.Sides[1].Judgement.Missing > 0
	}
	if !blind || !hopeful {
		t.Errorf("in %d drills: the client that retries blindly exposed: %v, the one that hopes: %v", drills, blind, hopeful)
	}
}

// onBegin calls f when something begins.
type onBegin struct {
	nobody
	f func(Phase)
}

func (w onBegin) Begin(p Phase) { w.f(p) }

func TestADrillThatIsInterruptedEndsWithTheCause(t *testing.T) {
	for _, during := range []string{"starting", "undisturbed", "under faults"} {
		t.Run(during, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the reason")
			cfg := small()
			cfg.Duration, cfg.Timeout = time.Hour, time.Hour
			cfg.Watch = onBegin{f: func(p Phase) {
				if p.Name == during {
					cancel(why)
				}
			}}
			if _, err := Run(ctx, cfg); !errors.Is(err, why) {
				t.Errorf("got %v, want the cause", err)
			}
		})
	}
}

func TestOnAUsersClusterOnlyThePrefixIsTouched(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := c.Client(t)
	if _, err := cli.Put(t.Context(), "mine", "stays"); err != nil {
		t.Fatal(err)
	}
	cfg := small()
	cfg.Target = &Target{Client: c.Config(), Prefix: "drill/"}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Faults || !r.OK || r.Sides[1].Writes == 0 {
		t.Errorf("got %+v", r)
	}
	keys, err := cli.Get(t.Context(), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	if len(keys.Kvs) != 1 || string(keys.Kvs[0].Value) != "stays" {
		t.Errorf("left behind: %v", keys.Kvs)
	}
}

func TestAUsersClusterIsCleanedUpAfterAnInterruption(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the reason")
	cfg := small()
	cfg.Target = &Target{Client: c.Config(), Prefix: "drill/"}
	cfg.Watch = onBegin{f: func(p Phase) {
		if p.Name == "calls under way" {
			cancel(why)
		}
	}}
	if _, err := Run(ctx, cfg); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	keys, err := c.Client(t).Get(t.Context(), "", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	if len(keys.Kvs) > 0 {
		t.Errorf("left behind: %v", keys.Kvs)
	}
}

func TestAPrefixInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	cli := c.Client(t)
	if _, err := cli.Put(t.Context(), "drill/reprise/key", "value"); err != nil {
		t.Fatal(err)
	}
	cfg := small()
	cfg.Target = &Target{Client: c.Config(), Prefix: "drill/"}
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another prefix") {
		t.Errorf("got %v, want the prefix refused", err)
	}
	r, err := cli.Get(t.Context(), "drill/reprise/key")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("got %v, %v: the user's key is gone", r, err)
	}
}

func TestALoadBeyondTheMachineIsRefused(t *testing.T) {
	t.Parallel()
	s := &side{cfg: &Config{Rate: 1000}, load: &kvLoad{}}
	s.load.calls.offered.Store(100)
	s.load.calls.acked.Store(51)
	if err := s.keepsUp(t.Context()); err != nil {
		t.Errorf("more than half was answered: %v", err)
	}
	s.load.calls.acked.Store(49)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.keepsUp(ctx); err == nil || !strings.Contains(err.Error(), "--rate 1000") {
		t.Errorf("got %v, want the rate named", err)
	}
}
