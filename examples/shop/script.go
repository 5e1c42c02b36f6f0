package shop

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A Script says how the attempts of each method fare, one after the other:
//
//   - ok: the method is called
//   - lost: the method is called, but UNAVAILABLE is answered
//   - slow: the attempt hangs until the client gives it up
//   - the name of a status code, such as UNAVAILABLE: it is answered, and the
//     method is not called
//
// After the last of them, all is well.
type Script struct {
	mu       sync.Mutex
	steps    map[string][]step
	attempts map[string]int
}

type step struct {
	verb string
	code codes.Code // of the verb "fail"
}

// ParseScript reads a script such as "Place=lost,ok Get=UNAVAILABLE".
func ParseScript(text string) (*Script, error) {
	s := &Script{steps: make(map[string][]step), attempts: make(map[string]int)}
	for method := range strings.FieldsSeq(text) {
		name, words, _ := strings.Cut(method, "=")
		for word := range strings.SplitSeq(words, ",") {
			st := step{verb: word}
			switch word {
			case "ok", "lost", "slow":
			default:
				st.verb = "fail"
				if err := st.code.UnmarshalJSON([]byte(`"` + word + `"`)); err != nil {
					return nil, fmt.Errorf("script: %s: %q is none of ok, lost, slow and the status codes", name, word)
				}
			}
			s.steps[name] = append(s.steps[name], st)
		}
	}
	return s, nil
}

// Attempts returns how many attempts of a method have arrived.
func (s *Script) Attempts(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts[method]
}

// ServerOptions make a gRPC server follow the script.
func (s *Script) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			var resp any
			err := s.play(ctx, info.FullMethod, func() (err error) {
				resp, err = handler(ctx, req)
				return err
			})
			return resp, err
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return s.play(stream.Context(), info.FullMethod, func() error { return handler(srv, stream) })
		}),
	}
}

// play lets one attempt fare as the script says.
func (s *Script) play(ctx context.Context, fullMethod string, handle func() error) error {
	switch st := s.next(path.Base(fullMethod)); st.verb {
	case "fail":
		return status.Error(st.code, "as the script says")
	case "lost":
		if err := handle(); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "done, but the answer was lost, as the script says")
	case "slow":
		<-ctx.Done()
		return ctx.Err()
	}
	return handle()
}

func (s *Script) next(method string) step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[method]++
	steps := s.steps[method]
	if len(steps) == 0 {
		return step{verb: "ok"}
	}
	s.steps[method] = steps[1:]
	return steps[0]
}
