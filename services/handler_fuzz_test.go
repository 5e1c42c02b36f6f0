package services_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/reprise-go/reprise/services"
)

// Whatever is asked, and whatever names and reasons services have, an answer
// has one line for each check and no line of anybody else's making.
func FuzzHandler(f *testing.F) {
	f.Add("/readyz", "verbose&exclude=a", "a", "down")
	f.Add("/readyz/a/b", "", "a/b", "")
	f.Add("/healthz", "verbose", "a\n[+]b ok", "x\r\nreadyz check passed")
	f.Add("//readyz//", "exclude=%zz;verbose", " ", "\x00\u2028")
	f.Fuzz(func(t *testing.T, path, query, name, reason string) {
		if name == "" || name == "HealthCheck" {
			return // not a name of a service
		}
		svc := &scripted{name: name}
		if reason != "" {
			svc.ready = failing(errors.New(reason))
			svc.report = func() map[string]error { return map[string]error{name: errors.New(reason)} }
		}
		c := services.NewChecker("", "")
		if err := errors.Join(c.Register(svc), c.Start()); err != nil {
			t.Fatal(err)
		}
		defer c.Close()

		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}})
		body := w.Body.String()
		switch w.Code {
		case http.StatusNotFound:
			return
		case http.StatusOK, http.StatusServiceUnavailable:
		default:
			t.Fatalf("%d %q", w.Code, body)
		}
		if body == "ok" {
			return
		}
		failed := 0
		for line := range strings.Lines(body) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("unprintable characters in %q", line)
			}
			switch {
			case strings.HasPrefix(line, "[+]"), strings.HasPrefix(line, "warn: "):
			case strings.HasPrefix(line, "[-]"):
				failed++
			case strings.HasSuffix(line, "z check passed"), strings.HasSuffix(line, "z check failed"):
			default:
				t.Errorf("a line of its own: %q", line)
			}
		}
		if (failed > 0) != (w.Code == http.StatusServiceUnavailable) {
			t.Errorf("%d with %d failures: %q", w.Code, failed, body)
		}
	})
}
