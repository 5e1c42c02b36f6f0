package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reprise-go/reprise/cmd/reprise/internal/drill"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

// asCommand is set in a process that is to be the command itself.
const asCommand = "REPRISE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command runs a command line, and returns its exit status and output.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestBadCommandLinesAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"drill --duration 0":                            "duration",
		"drill --duration nonsense":                     "duration",
		"drill --rate -1":                               "rate",
		"drill --clients 0":                             "clients",
		"drill --timeout 1us":                           "timeout",
		"drill --bogus":                                 "bogus",
		"drill extra":                                   "extra",
		"drill --prefix p":                              "--endpoints",
		"drill --user u:p":                              "--endpoints",
		"drill --cert c":                                "key",
		"drill --endpoints 127.0.0.1:1 --user u":        "name:password",
		"drill --endpoints 127.0.0.1:1 --cacert /no/ca": "/no/ca",
		"drill --endpoints ":                            "endpoint",
		"nosuch":                                        "nosuch",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			status, out, errs := command(t, strings.Split(args, " ")...)
			if status != exitFailed || out != "" || !strings.Contains(errs, want) {
				t.Errorf("status %d, output %q, error %q: want status %d and %q", status, out, errs, exitFailed, want)
			}
			if strings.Count(errs, "\n") > 1 {
				t.Errorf("the error has more than a line: %q", errs)
			}
		})
	}
}

func TestHelpIsNoError(t *testing.T) {
	t.Parallel()
	status, out, _ := command(t, "drill", "--help")
	for _, flag := range []string{"--duration", "--seed", "--endpoints", "--json", "Exit status"} {
		if status != exitOK || !strings.Contains(out, flag) {
			t.Errorf("status %d, no %s in %q", status, flag, out)
		}
	}
}

func TestAnUnreachableClusterIsAnErrorWithinSeconds(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() }) // after the subtests, which are parallel
	encrypted := etcdtest.New(t, etcdtest.WithTLS()).Member(0).ClientLink().Addr()
	for name, c := range map[string]struct{ args, why string }{
		"nobody listens":           {"--endpoints 127.0.0.1:1", "refused"},
		"nobody listens to a user": {"--endpoints 127.0.0.1:1 --user a:b", "refused"},
		"nobody answers":           {"--endpoints " + silent.Addr().String(), "no answer within"},
		"somebody wants TLS":       {"--endpoints " + encrypted, "server preface"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			args := strings.Fields("drill " + c.args)
			status, out, errs := command(t, args...)
			if status != exitFailed || out != "" || !strings.Contains(errs, "endpoints ["+args[2]+"]") || !strings.Contains(errs, c.why) {
				t.Errorf("status %d, output %q, error %q", status, out, errs)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestADrillPrintsJSON(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	status, out, errs := command(t, "drill", "--json", "--seed", "7", "--duration", "500ms", "--rate", "50", "--clients", "1",
		"--endpoints", strings.Join(c.Endpoints(), ","), "--prefix", "p/")
	if status != exitOK {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r drill.Report
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if r.Seed != 7 || r.Seconds != 0.5 || len(r.Sides) != 2 || r.Sides[0].Calls == 0 || !r.OK {
		t.Errorf("got %+v", r)
	}
	if !strings.Contains(errs, "under load") {
		t.Errorf("no progress in %q", errs)
	}
}

func TestADrillWithUserAndCertificates(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithAuth("secret"))
	status, _, errs := command(t, "drill", "--duration", "200ms", "--rate", "20", "--clients", "1", "--user", "root:secret", "--endpoints", c.Endpoints()[0])
	if status != exitOK {
		t.Errorf("status %d: %s", status, errs)
	}
	status, _, errs = command(t, "drill", "--duration", "200ms", "--user", "root:wrong", "--endpoints", c.Endpoints()[0])
	if status != exitFailed || !strings.Contains(errs, "auth") {
		t.Errorf("status %d: %s", status, errs)
	}
}

// syncBuffer may be written by another process while it is read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestCtrlCEndsADrillCleanly(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "drill", "--duration", "10m", "--rate", "50")
	cmd.Env = append(os.Environ(), asCommand+"=1")
	out, errs := &syncBuffer{}, &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	waitFor(ctx, t, func() bool { return strings.Contains(errs.String(), "under faults") })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status is checked below
	if got := cmd.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("status %d, want %d: %s", got, exitInterrupted, errs)
	}
	if !strings.HasSuffix(errs.String(), "reprise: interrupted\n") || out.String() != "" {
		t.Errorf("it said %q and %q", out, errs)
	}
}

func waitFor(ctx context.Context, t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("waited in vain")
		}
	}
}

func TestProgressIsLinesWhereThereIsNoTerminal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	o, done := newProgress(&b)
	show(o)
	done()
	want := "reprise: under faults (2s)\n" +
		"reprise: fault: kill the leader\n" +
		"reprise: under faults: done, 10 calls, 7 acknowledged, 1 not, 2 under way\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestBarsShowThePhaseAndItsCalls(t *testing.T) {
	t.Parallel()
	var b syncBuffer
	bars := newBars(&b)
	show(bars)
	bars.Begin(drill.Phase{Side: "clientv3", Name: "interrupted", Count: func() drill.Count { return drill.Count{} }})
	bars.done()
	for _, want := range []string{"reprise", "under faults", "7 ok, 1 not", "interrupted"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
}

// show plays a phase to an observer.
func show(o drill.Observer) {
	p := drill.Phase{Side: "reprise", Name: "under faults", Takes: 2 * time.Second, Count: func() drill.Count {
		return drill.Count{Offered: 10, Acknowledged: 7, Failed: 1}
	}}
	o.Begin(p)
	o.Struck("reprise", drill.KillLeader)
	o.End(p)
}

func TestOnlyATerminalIsATerminal(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if isTerminal(io.Discard) || isTerminal(w) {
		t.Error("a pipe is taken for a terminal")
	}
}
