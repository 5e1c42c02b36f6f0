package reprise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// diary writes events down in one line each.
type diary struct {
	mu    sync.Mutex
	lines []string
	marks []any
}

type diaryKey struct{}

func (d *diary) CallContext(ctx context.Context, e Event) context.Context {
	return context.WithValue(ctx, diaryKey{}, "call"+e.Method)
}

func (d *diary) AttemptContext(ctx context.Context, e Event) context.Context {
	return context.WithValue(ctx, diaryKey{}, fmt.Sprint(ctx.Value(diaryKey{}), e.Attempt))
}

func (d *diary) Observe(ctx context.Context, e Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.marks = append(d.marks, ctx.Value(diaryKey{}))
	var line string
	switch e.Kind {
	case EventAttempt:
		line = fmt.Sprintf("attempt %d took %v: %v", e.Attempt, e.Duration, e.Err != nil)
	case EventPause:
		line = fmt.Sprintf("pause %v after %d from %v", e.Pause, e.Attempt, e.Source)
	case EventEnd:
		line = fmt.Sprintf("end after %d, %v, paused %v: %v %v", e.Attempt, e.Duration, e.Pause, e.Err != nil, e.Reason)
	}
	if e.Method != "" {
		line = e.Method + "@" + e.Target + " " + line
	}
	if e.Hedge {
		line += " hedged"
	}
	d.lines = append(d.lines, line)
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(d.lines, "\n  "), strings.Join(lines, "\n  "))
	}
	d.lines = nil
}

func TestObserverHearsOfEachAttemptPauseAndEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(diary)
		opts := []CallOption{onDown(steady(time.Second)), WithObserver(d), WithMaxAttempts(3), WithPushback()}
		invoke := func(s *script, more ...CallOption) {
			s.takes = 10 * time.Millisecond
			_ = Invoke(t.Context(), s.call, append(opts, more...)...)
		}
		invoke(failing(nil))
		d.want(t, "attempt 1 took 10ms: false", "end after 1, 10ms, paused 0s: false Reason(0)")

		invoke(failing(errDown, errDown, nil))
		d.want(t, "attempt 1 took 10ms: true", "pause 1s after 1 from backoff",
			"attempt 2 took 10ms: true", "pause 1s after 2 from backoff",
			"attempt 3 took 10ms: false", "end after 3, 2.03s, paused 2s: false Reason(0)")

		invoke(failing(errDown, retryIn(0), errDown), WithMethod("/svc/Get", "dns:///svc"))
		d.want(t, "/svc/Get@dns:///svc attempt 1 took 10ms: true", "/svc/Get@dns:///svc pause 1s after 1 from backoff",
			"/svc/Get@dns:///svc attempt 2 took 10ms: true", "/svc/Get@dns:///svc pause 1s after 2 from backoff",
			"/svc/Get@dns:///svc attempt 3 took 10ms: true", "/svc/Get@dns:///svc end after 3, 2.03s, paused 2s: true attempts exhausted")

		invoke(failing(errMissing))
		d.want(t, "attempt 1 took 10ms: true", "end after 1, 10ms, paused 0s: true Reason(0)")
		invoke(failing(errMissing), WithRetry(nil))
		d.want(t, "attempt 1 took 10ms: true", "end after 1, 10ms, paused 0s: true Reason(0)")

		invoke(failing(nil), WithThrottle(refuser{}))
		d.want(t, "end after 0, 0s, paused 0s: true throttled by the client")

		const m = "call/svc/Get"
		want := []any{
			"call1", "call", "call1", "call", "call2", "call", "call3", "call",
			m + "1", m, m + "2", m, m + "3", m, "call1", "call", "call1", "call", "call",
		}
		if !slices.Equal(d.marks, want) {
			t.Errorf("the events came with the contexts %v, want %v", d.marks, want)
		}
	})
}

func TestObserverIsToldWhereAPauseCameFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(diary)
		s := failing(errDown, retryIn(time.Minute), errDown)
		_ = Invoke(t.Context(), pushing(s, []string{"5"}), WithObserver(d), WithPushback(), WithMaxAttempts(3),
			onDown(Backoff{Initial: time.Second, Jitter: JitterNone, Rand: lowest}))
		d.want(t, "attempt 1 took 0s: true", "pause 5ms after 1 from pushback trailer",
			"attempt 2 took 0s: true", "pause 1m0s after 2 from RetryInfo",
			"attempt 3 took 0s: true", "end after 3, 1m0.005s, paused 1m0.005s: true attempts exhausted")
	})
}

func TestSeveralObserversAddUp(t *testing.T) {
	t.Parallel()
	a, b, c := new(diary), new(diary), new(diary)
	var marked any
	_ = Invoke(t.Context(), func(ctx context.Context, _ CallSettings) error {
		marked = ctx.Value(diaryKey{})
		return nil
	}, WithObserver(a), WithObserver(nil), WithObserver(b), WithObserver(ObserverFunc(nil)), WithObserver(c))
	if len(a.lines) != 0 || len(b.lines) != 2 || len(c.lines) != 2 || marked != "call11" {
		t.Errorf("heard %q, %q, %q; marked %v", a.lines, b.lines, c.lines, marked)
	}
}

func TestObserverOfHedgedCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(diary)
		u := bindUnary(serve(t, scripted(step{wait: 3 * time.Second}, step{wait: time.Second})),
			WithHedge(HedgePolicy{Delay: time.Second}), WithObserver(d))
		if _, err := u.Call(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		// The loser's end is heard too; it is cancelled when the call ends.
		d.want(t, "attempt 2 took 1s: false hedged", "end after 2, 2s, paused 0s: false Reason(0) hedged", "attempt 1 took 2s: true")
	})
}

func TestObserverOfStreamsAndInterceptors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(diary)
		policy := []CallOption{onDown(steady(time.Second)), WithObserver(d)}
		s := flaky(map[int]int{1: 0})()
		s.unary = scripted(step{}).unary
		client := testpb.NewTestServiceClient(serve(t, s, grpc.WithStreamInterceptor(StreamClientInterceptor(policy...)),
			grpc.WithUnaryInterceptor(UnaryClientInterceptor(policy...))))
		stream, err := client.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drain(stream); err != nil {
			t.Fatal(err)
		}
		const name = "/grpc.testing.TestService/StreamingOutputCall@passthrough:///test "
		d.want(t, name+"attempt 1 took 0s: true", name+"pause 1s after 1 from backoff",
			name+"attempt 2 took 0s: false", name+"end after 2, 1s, paused 1s: false Reason(0)")
		_, _ = client.UnaryCall(t.Context(), &testpb.SimpleRequest{}, PerCall(WithMethod("/own/name", "own")))
		d.want(t, "/own/name@own attempt 1 took 0s: false", "/own/name@own end after 1, 0s, paused 0s: false Reason(0)")
	})
}

func TestSlogObserver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		opts := []CallOption{onDown(steady(time.Second)), WithObserver(SlogObserver(log)), WithMaxAttempts(2)}
		_ = Invoke(t.Context(), failing(nil).call, opts...)
		_ = Invoke(t.Context(), failing(errDown, nil).call, append(opts, WithMethod("/svc/Get", ""))...)
		_ = Invoke(t.Context(), failing(errors.New("plain")).call, opts...)
		want := `level=DEBUG msg="attempt failed" method=/svc/Get attempt=1 duration=0s error="rpc error: code = Unavailable desc = down"
level=DEBUG msg="trying again" method=/svc/Get attempt=1 pause=1s source=backoff
level=INFO msg="call succeeded after retries" method=/svc/Get attempts=2 duration=1s
level=DEBUG msg="attempt failed" attempt=1 duration=0s error=plain
level=INFO msg="call failed" attempts=1 duration=0s error=plain
`
		if out.String() != want {
			t.Errorf("logged\n%s\nwant\n%s", out.String(), want)
		}
		_ = Invoke(t.Context(), failing(errDown).call, WithObserver(SlogObserver(nil)))
	})
}

func TestPauseSourcesHaveNames(t *testing.T) {
	t.Parallel()
	if got := fmt.Sprint(PauseBackoff, PauseTrailer, PauseRetryInfo, PauseSource(9)); got != "backoff pushback trailer RetryInfo unknown" {
		t.Error(got)
	}
}
