package services

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Handler returns a handler for the endpoints that Kubernetes and load
// balancers ask, at the root of the paths it is given; use [http.StripPrefix]
// to serve it elsewhere:
//
//	/livez    the checker polls: restart the process if it does not
//	/readyz   every service is ready: send work only then
//	/healthz  every name of the health reports is healthy: for people and alerts
//
// The answer is 200 if all is well and 503 otherwise. All fail if the checker
// is not started, is closed, or has not polled for three intervals and a
// timeout; /readyz and /healthz fail before the first poll has ended, and /readyz
// after [HealthChecker.Drain]. The checker itself stands in the answers under the
// name HealthCheck. Requests are answered from the last poll and never reach a
// service.
//
// As in Kubernetes, the body of a success is "ok", and of a failure a line for
// each check, with the reasons withheld. The query parameter verbose asks for
// the lines and the reasons, unless WithholdReasons of [HealthCheckerConfig] is
// set; exclude=NAME, which may stand several times, leaves a check out, and is
// answered with a warning line if there is no such check. A path such as
// /readyz/NAME asks for one check and the checker itself; it is 404 if there is
// no such check.
func (c *HealthChecker) Handler() http.Handler { return healthHandler{c} }

type healthHandler struct{ c *HealthChecker }

// ServeHTTP implements http.Handler.
func (h healthHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint, name, one := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	checks, ok := h.c.checks(endpoint)
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "405 method not allowed", http.StatusMethodNotAllowed)
		return
	}
	if one && name != "" {
		err, known := checks[name]
		if !known {
			http.NotFound(w, r)
			return
		}
		checks = map[string]error{checkerName: checks[checkerName], name: err}
	}
	h.answer(w, endpoint, checks, r.URL.Query())
}

// checks returns what an endpoint has to say, and false if there is no such
// endpoint.
func (c *HealthChecker) checks(endpoint string) (map[string]error, bool) {
	self := c.self()
	c.mu.Lock()
	status := c.status
	c.mu.Unlock()

	checks := make(map[string]error)
	switch endpoint {
	case "livez":
	case "readyz":
		maps.Copy(checks, status.Ready)
		if self == nil {
			self = status.accepting()
		}
	case "healthz":
		maps.Copy(checks, status.Health)
		if self == nil && !status.Running {
			self = errNotPolled
		}
	default:
		return nil, false
	}
	mergeHealth(checks, checkerName, self)
	return checks, true
}

var (
	errNotPolled = errors.New("the first poll has not ended")
	errDraining  = errors.New("draining")
)

// accepting returns nil if new work may be sent here as far as the checker
// itself is concerned.
func (s HealthStatus) accepting() error {
	switch {
	case s.Draining:
		return errDraining
	case !s.Running:
		return errNotPolled
	default:
		return nil
	}
}

// answer writes the checks in the form of the health endpoints of Kubernetes.
func (h healthHandler) answer(w http.ResponseWriter, endpoint string, checks map[string]error, query url.Values) {
	verbose := query.Has("verbose")
	excluded := make(map[string]bool)
	for _, name := range query["exclude"] {
		if name != "" {
			excluded[name] = true
		}
	}

	var body bytes.Buffer
	failed := false
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		err := checks[name]
		switch {
		case excluded[name]:
			fmt.Fprintf(&body, "[+]%s excluded: ok\n", oneLine(name))
			delete(excluded, name)
		case err == nil:
			fmt.Fprintf(&body, "[+]%s ok\n", oneLine(name))
		case verbose && !h.c.cfg.WithholdReasons:
			failed = true
			fmt.Fprintf(&body, "[-]%s failed: %s\n", oneLine(name), oneLine(err.Error()))
		default:
			failed = true
			fmt.Fprintf(&body, "[-]%s failed: reason withheld\n", oneLine(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(excluded)) {
		fmt.Fprintf(&body, "warn: no check %q to exclude\n", name)
	}

	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	switch {
	case failed:
		fmt.Fprintf(&body, "%s check failed\n", endpoint)
		w.WriteHeader(http.StatusServiceUnavailable)
	case verbose:
		fmt.Fprintf(&body, "%s check passed\n", endpoint)
	default:
		body.Reset()
		body.WriteString("ok")
	}
	_, _ = w.Write(body.Bytes()) // the client may have gone
}

// oneLine keeps what a service says from looking like lines of its own.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
