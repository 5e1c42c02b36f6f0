package services_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reprise-go/reprise/services"
)

func ask(t *testing.T, c *services.HealthChecker, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
	return w
}

func get(t *testing.T, c *services.HealthChecker, target string) (int, string) {
	t.Helper()
	w := ask(t, c, http.MethodGet, target)
	return w.Code, w.Body.String()
}

func TestTheHandlerAnswersInTheFormOfKubernetes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		multi := errors.Join(errors.New("one\r\n[+]fake ok"), errors.New("two"))
		c := started(t, services.HealthCheckerConfig{},
			&scripted{
				name:   "app/db",
				ready:  failing(errors.New("no connection")),
				report: func() map[string]error { return map[string]error{"app/db": nil, "app/db.pool": multi} },
			},
			&scripted{name: "app"},
		)
		for _, q := range []struct {
			target string
			code   int
			body   string
		}{
			{"/livez", 200, "ok"},
			{"/livez?verbose", 200, "[+]HealthCheck ok\nlivez check passed\n"},
			{"/livez/HealthCheck", 200, "ok"},
			{"/readyz", 503, "[+]HealthCheck ok\n[+]app ok\n[-]app/db failed: reason withheld\nreadyz check failed\n"},
			{"/readyz/?verbose=1", 503, "[+]HealthCheck ok\n[+]app ok\n[-]app/db failed: no connection\nreadyz check failed\n"},
			{"/readyz?exclude=app/db", 200, "ok"},
			{"/readyz?verbose&exclude=app/db", 200, "[+]HealthCheck ok\n[+]app ok\n[+]app/db excluded: ok\nreadyz check passed\n"},
			{
				"/readyz?verbose&exclude=app/db&exclude=app&exclude=x&exclude=", 200,
				"[+]HealthCheck ok\n[+]app excluded: ok\n[+]app/db excluded: ok\nwarn: no check \"x\" to exclude\nreadyz check passed\n",
			},
			{"/readyz/app", 200, "ok"},
			{"/readyz/app?verbose", 200, "[+]HealthCheck ok\n[+]app ok\nreadyz check passed\n"},
			{"/readyz/app/db", 503, "[+]HealthCheck ok\n[-]app/db failed: reason withheld\nreadyz check failed\n"},
			{"/readyz/app%2Fdb", 503, "[+]HealthCheck ok\n[-]app/db failed: reason withheld\nreadyz check failed\n"},
			{"/readyz/app/db.pool", 404, "404 page not found\n"},
			{"/healthz/app/db", 200, "ok"},
			{"/healthz?exclude=app/db.pool", 200, "ok"},
			{
				"/healthz?verbose", 503,
				"[+]HealthCheck ok\n[+]app ok\n[+]app/db ok\n[-]app/db.pool failed: one ; [+]fake ok; two\nhealthz check failed\n",
			},
			{"/", 404, "404 page not found\n"},
			{"/readyzz", 404, "404 page not found\n"},
		} {
			if code, body := get(t, c, q.target); code != q.code || body != q.body {
				t.Errorf("%s: %d %q\nwant %d %q", q.target, code, body, q.code, q.body)
			}
		}

		w := ask(t, c, http.MethodHead, "/readyz")
		for key, want := range map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		} {
			if got := w.Header().Get(key); got != want || w.Code != 503 {
				t.Errorf("%s: %q (%d)", key, got, w.Code)
			}
		}
		if w := ask(t, c, http.MethodPost, "/readyz"); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}

func TestReasonsCanBeWithheldFromEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := started(t, services.HealthCheckerConfig{WithholdReasons: true}, &scripted{name: "a", ready: failing(errBoom)})
		if _, body := get(t, c, "/readyz?verbose"); body != "[+]HealthCheck ok\n[-]a failed: reason withheld\nreadyz check failed\n" {
			t.Error(body)
		}
	})
}

func TestTheHandlerFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var target string
		expect := func(c *services.HealthChecker, when string, want map[string]string) {
			t.Helper()
			for _, target = range []string{"livez", "readyz", "healthz"} {
				code, body := get(t, c, "/"+target+"?verbose")
				reason := want[target]
				if reason == "" {
					if code != 200 {
						t.Errorf("%s, %s: %d %s", when, target, code, body)
					}
				} else if code != 503 || body != "[-]HealthCheck failed: "+reason+"\n"+target+" check failed\n" {
					t.Errorf("%s, %s: %d %s", when, target, code, body)
				}
			}
		}
		all := func(reason string) map[string]string {
			return map[string]string{"livez": reason, "readyz": reason, "healthz": reason}
		}

		c := services.NewChecker("", "")
		expect(c, "before the start", all(`service is "Unstarted", not started`))

		release := make(chan struct{})
		if err := c.Register(&scripted{name: "slow", ready: func() error { <-release; return nil }}); err != nil {
			t.Fatal(err)
		}
		startedUp := make(chan error)
		go func() { startedUp <- c.Start() }()
		synctest.Wait()
		expect(c, "during the first poll", map[string]string{
			"readyz": "the first poll has not ended", "healthz": "the first poll has not ended",
		})
		close(release)
		if err := <-startedUp; err != nil {
			t.Fatal(err)
		}
		expect(c, "running", nil)
		if code, _ := get(t, c, "/readyz/slow"); code != 200 {
			t.Error(code)
		}

		if err := c.Unregister("slow"); err != nil {
			t.Error(err)
		}
		c.Drain()
		expect(c, "draining", map[string]string{"readyz": "draining"})
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		expect(c, "closed", all(`service is "Stopped", not started`))
	})
}

func TestLivenessFailsWhenPollingStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var block atomic.Pointer[chan struct{}]
		c := started(t, services.HealthCheckerConfig{
			Interval: time.Second, Timeout: time.Second,
			SetHealth: func(context.Context, bool) {
				if b := block.Load(); b != nil {
					<-*b
				}
			},
		})
		blocked := make(chan struct{})
		block.Store(&blocked)
		time.Sleep(5 * time.Second) // the last poll was at 1 s: three intervals and a timeout ago
		synctest.Wait()
		if code, body := get(t, c, "/livez"); code != 200 {
			t.Error(code, body)
		}
		time.Sleep(time.Millisecond)
		for _, target := range []string{"livez", "readyz", "healthz"} {
			want := "[-]HealthCheck failed: the last poll was 4.001s ago\n" + target + " check failed\n"
			if code, body := get(t, c, "/"+target+"?verbose"); code != 503 || body != want {
				t.Error(code, body)
			}
		}
		close(blocked)
		synctest.Wait()
		if code, body := get(t, c, "/livez"); code != 200 {
			t.Error(code, body)
		}
	})
}
