package program_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
	"github.com/reprise-go/reprise/services"
)

const (
	data      = "data/"
	setting   = "setting"
	instances = "instances/"
	election  = "election"
)

// program is the main function of the program under test. It prints what it
// does, a line for each.
func program(name, lockFile string, endpoints []string) error {
	cli, err := etcdcall.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer cli.Close()

	checker := services.HealthCheckerConfig{Interval: 50 * time.Millisecond, Timeout: time.Second}.New()
	values := newCache(cli, data)
	mux := http.NewServeMux()
	mux.Handle("/", checker.Handler())
	mux.HandleFunc("/value/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, values.value(data+strings.TrimPrefix(r.URL.Path, "/value/")))
	})
	cfg := services.RunConfig{
		// The drain leaves a busy machine the time to look at it.
		Checker: checker, Drain: 4 * time.Second, Timeout: time.Minute,
		OnStop: func(reason error) { say("stopping", reason) },
	}
	return services.Run(context.Background(), cfg,
		values,
		newFollower(cli, setting, func(ev *clientv3.Event) { say("set", string(ev.Kv.Value)) }),
		newPresence(cli, instances+name),
		newLeader(cli, election, name, func(ctx context.Context) error { return lead(ctx, lockFile) }),
		newWeb(mux, func(addr string) { say("listens", addr) }),
	)
}

func say(words ...any) { fmt.Fprintln(os.Stdout, words...) }

// lead is the task of the leader: it holds a lock of the operating system, which
// cannot be wrong about who else has it.
func lead(ctx context.Context, lockFile string) error {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		say("twice", err)
		return err
	}
	say("leads")
	<-ctx.Done()
	say("led", context.Cause(ctx))
	return context.Cause(ctx)
}

// instance is a process of the program.
type instance struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the output has ended

	mu    sync.Mutex
	lines []string
	err   strings.Builder
}

func run(t *testing.T, name, lockFile string, c *etcdtest.Cluster) *instance {
	t.Helper()
	args := append([]string{"-test.run=^$", "program", name, lockFile}, c.Endpoints()...)
	i := &instance{name: name, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	i.cmd.Stderr = &i.err
	out, err := i.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(i.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			i.mu.Lock()
			i.lines = append(i.lines, s.Text())
			i.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill()
		<-i.done
		_ = i.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s\n%s", name, strings.Join(i.lines, "\n"), &i.err)
		}
	})
	return i
}

// said returns what followed a word in the last line that began with it, and
// how many there were.
func (i *instance) said(word string) (last string, times int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, line := range i.lines {
		if first, rest, _ := strings.Cut(line, " "); first == word {
			last = rest
			times++
		}
	}
	return last, times
}

// leads reports whether the instance runs the task of the leader now.
func (i *instance) leads() bool {
	_, began := i.said("leads")
	_, ended := i.said("led")
	return began > ended
}

// get asks the web server; the code is 0 if there is none.
func (i *instance) get(t *testing.T, path string) (code int, body string) {
	t.Helper()
	addr, _ := i.said("listens")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return 0, ""
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(text)
}

func (i *instance) ready(t *testing.T) bool {
	code, _ := i.get(t, "/readyz")
	return code == http.StatusOK
}

// terminate ends the instance by SIGTERM and returns what its process did.
func (i *instance) terminate(t *testing.T) error {
	t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	eventually(t, i.name+" drains", func() bool {
		code, body := i.get(t, "/readyz?verbose")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "[-]HealthCheck failed: draining")
	})
	if code, _ := i.get(t, "/livez"); code != http.StatusOK {
		return fmt.Errorf("/livez is %d while it drains", code)
	}
	<-i.done
	return i.cmd.Wait()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for !is() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func TestAProgramOutlivesItsClusterAndEndsInOrder(t *testing.T) {
	c := etcdtest.New(t, etcdtest.WithMembers(3), etcdtest.WithTick(50*time.Millisecond, 500*time.Millisecond))
	cli := c.Client(t)
	put := func(value string) {
		t.Helper()
		eventually(t, "put "+value, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := cli.Txn(ctx).Then(clientv3.OpPut(data+"key", value), clientv3.OpPut(setting, value)).Commit()
			return err == nil
		})
	}
	lockFile := filepath.Join(t.TempDir(), "lock")
	a, b := run(t, "a", lockFile, c), run(t, "b", lockFile, c)
	both := func(what string, is func(*instance) bool) {
		t.Helper()
		for _, i := range []*instance{a, b} {
			eventually(t, i.name+" "+what, func() bool { return is(i) })
		}
	}
	sees := func(value string) func(*instance) bool {
		return func(i *instance) bool {
			_, body := i.get(t, "/value/key")
			last, _ := i.said("set")
			return body == value && last == value
		}
	}

	both("is ready", func(i *instance) bool { return i.ready(t) })
	put("before")
	both("sees a value", sees("before"))
	eventually(t, "one leads", func() bool { return a.leads() || b.leads() })

	for _, m := range c.Members() {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	both("is not ready without a cluster", func(i *instance) bool {
		code, _ := i.get(t, "/readyz")
		return code == http.StatusServiceUnavailable
	})
	both("lives without a cluster", func(i *instance) bool { code, _ := i.get(t, "/livez"); return code == http.StatusOK })
	both("does not lead without a lease", func(i *instance) bool { return !i.leads() })
	both("knows what it misses", func(i *instance) bool {
		_, body := i.get(t, "/readyz?verbose")
		return strings.Contains(body, "[+]cache ok") && strings.Contains(body, "[-]follower failed: nothing heard") &&
			strings.Contains(body, "[-]presence failed") && strings.Contains(body, "[-]leader failed") &&
			strings.Contains(body, "[+]web ok")
	})
	var wg sync.WaitGroup
	for _, m := range c.Members() { // a member is ready when there is a quorum
		wg.Go(func() {
			if err := m.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	both("is ready again", func(i *instance) bool { return i.ready(t) })
	put("after")
	both("sees a value again", sees("after"))
	eventually(t, "one leads again", func() bool { return a.leads() || b.leads() })

	if b.leads() {
		a, b = b, a
	}
	if err := a.terminate(t); err != nil {
		t.Errorf("%s ended with %v", a.name, err)
	}
	eventually(t, "the other leads", b.leads)
	eventually(t, "only the other is present", func() bool {
		resp, err := cli.Get(t.Context(), instances, clientv3.WithPrefix())
		return err == nil && len(resp.Kvs) == 1 && string(resp.Kvs[0].Key) == instances+b.name
	})
	if err := b.terminate(t); err != nil {
		t.Errorf("%s ended with %v", b.name, err)
	}
	for _, i := range []*instance{a, b} {
		if _, times := i.said("twice"); times != 0 {
			t.Errorf("the task ran twice at a time, says %s", i.name)
		}
		if reason, _ := i.said("stopping"); reason != "received signal: terminated" {
			t.Errorf("%s stopped because %s", i.name, reason)
		}
		if cause, _ := i.said("led"); i.leads() || cause != services.ErrStopped.Error() {
			t.Errorf("%s led until %q", i.name, cause)
		}
	}
}

// The lock by which the test judges must itself be able to find two leaders.
func TestTwoLeadersAreFound(t *testing.T) {
	lockFile := filepath.Join(t.TempDir(), "lock")
	held, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := lead(t.Context(), lockFile); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a second leader ended with %v", err)
	}
}
