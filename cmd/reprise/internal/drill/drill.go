package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/integration/check"
)

// Run drills both sides and reports. When ctx ends it returns early with the
// context's cause, after closing and removing everything it made.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	return run(ctx, cfg, contenders(&cfg))
}

func run(ctx context.Context, cfg Config, sides []Contender) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Watch == nil {
		cfg.Watch = nobody{}
	}
	r := &Report{
		Seed: cfg.Seed, Seconds: cfg.Duration.Seconds(), Rate: cfg.Rate, Clients: cfg.Clients,
		Deadline: cfg.Timeout.Seconds(), Faults: cfg.Target == nil, Once: cfg.ExactlyOnce,
	}
	for _, c := range sides {
		s, err := drillSide(ctx, &cfg, c)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("the side of %s: %w", c.Name, err)
		}
		r.Sides = append(r.Sides, *s)
	}
	r.conclude()
	return r, nil
}

// A side is one contender at work.
type side struct {
	cfg    *Config
	venue  *venue
	load   *kvLoad
	beside []workload
	start  time.Time
	result Side
}

func drillSide(ctx context.Context, cfg *Config, c Contender) (result *Side, err error) {
	s := &side{cfg: cfg, start: time.Now(), result: Side{Name: c.Name}}
	s.load = &kvLoad{seed: cfg.Seed, rate: cfg.Rate, timeout: cfg.Timeout, start: s.start}
	starting := s.phase("starting", 0)
	s.venue, err = open(ctx, cfg, c.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.venue.close(ctx)) }()
	s.load.prefix = s.venue.prefix + "kv/"
	s.load.clients, err = connect(c, s.venue, cfg.Clients)
	defer func() { err = errors.Join(err, closeAll(s.load.clients)) }()
	if err != nil {
		return nil, err
	}
	if err := s.warmUp(ctx); err != nil {
		return nil, err
	}
	starting()
	ctx, cancel := context.WithCancel(ctx)
	s.begin(ctx, c)
	defer func() {
		cancel()
		s.load.drain()
		s.settle(ctx, 0)
	}()
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	return &s.result, nil
}

func connect(c Contender, v *venue, n int) ([]*clientv3.Client, error) {
	cfg := v.config
	cfg.DialOptions = append(append([]grpc.DialOption{}, cfg.DialOptions...), countSends())
	var clients []*clientv3.Client
	for range n {
		cli, err := c.Connect(cfg, v.prefix+"once/")
		if err != nil {
			return clients, err
		}
		clients = append(clients, cli)
	}
	return clients, nil
}

func closeAll(clients []*clientv3.Client) error {
	var errs []error
	for _, cli := range clients {
		errs = append(errs, ignoreCancel(cli.Close()))
	}
	return errors.Join(errs...)
}

// warmUp connects the clients, so that the first calls need not wait for that.
func (s *side) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, warmUpTime, errNotWarm)
	defer cancel()
	for _, cli := range s.load.clients {
		_, err := cli.Put(ctx, s.venue.prefix+"warm-up", "")
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// begin starts what goes on beside the calls.
func (s *side) begin(ctx context.Context, c Contender) {
	st := &stage{
		clients: s.load.clients, keys: s.load.prefix, contests: s.venue.prefix + "contests/",
		first: s.venue.first, start: s.start, begun: s.elapsed(),
	}
	for _, w := range workloads(c) {
		w.begin(ctx, st)
		s.beside = append(s.beside, w)
	}
}

// settle ends what goes on beside the calls, after it has caught up or the
// time for that is over. Once it has ended, it does nothing.
func (s *side) settle(ctx context.Context, until int64) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	for _, w := range s.beside {
		w.settle(ctx, until)
	}
}

// run offers the load, first without faults and then with them, lets the calls
// under way end, and judges.
func (s *side) run(ctx context.Context) error {
	begin := s.elapsed()
	if lasting := s.cfg.quiet(); lasting > 0 {
		s.lasting(ctx, "undisturbed", lasting, func(timeUp <-chan struct{}) { s.load.offer(ctx, false, timeUp) })
	}
	quiet := s.elapsed()
	if err := s.keepsUp(ctx); err != nil {
		return err
	}
	from := s.elapsed()
	err := s.trouble(ctx)
	until := s.elapsed()
	drained := s.phase("calls under way", s.cfg.Timeout)
	s.load.drain()
	for _, w := range s.beside {
		w.quiesce(ctx)
	}
	drained()
	if err != nil || ctx.Err() != nil {
		return err
	}
	log, err := s.history(ctx)
	if err != nil {
		return err
	}
	list := s.load.calls.list
	s.result.summarise(list, from, until)
	s.result.Undisturbed = throughput(list, begin, quiet)
	s.result.Judgement, s.result.Writes = judge(list, log), len(log.Events)-1
	for _, w := range s.beside {
		w.report(log, list, &s.result)
	}
	return nil
}

// keepsUp returns an error if the calls offered without faults are too many for
// this machine: what faults do to an overloaded cluster says nothing. A moment
// of slowness is forgiven.
func (s *side) keepsUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmUpTime)
	defer cancel()
	for {
		c := s.load.calls.count()
		if c.UnderWay()+c.Failed <= c.Offered/2 {
			return nil
		}
		if !wait(ctx, 10*time.Millisecond, nil) {
			return fmt.Errorf("%d of %d calls were answered without any fault: the machine is too slow or too busy for --rate %d",
				c.Acknowledged, c.Offered, s.cfg.Rate)
		}
	}
}

// trouble offers the load while faults strike, if they do.
func (s *side) trouble(ctx context.Context) error {
	if s.venue.cluster == nil {
		s.lasting(ctx, "under load", s.cfg.Duration, func(timeUp <-chan struct{}) { s.load.offer(ctx, true, timeUp) })
		return nil
	}
	var err error
	s.lasting(ctx, "under faults", s.cfg.Duration, func(timeUp <-chan struct{}) {
		over := make(chan struct{})
		go func() {
			defer close(over)
			s.result.Faults, err = s.strike(ctx, timeUp)
		}()
		s.load.offer(ctx, true, over)
		<-over
	})
	return err
}

// strike breaks the cluster until the time is up, and heals it.
func (s *side) strike(ctx context.Context, timeUp <-chan struct{}) (map[Fault]int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Duration+recoveryTime, errNoRecovery)
	defer cancel()
	u := newUnrest(s.venue.cluster, func(f Fault) { s.cfg.Watch.Struck(s.result.Name, f) })
	return u.run(ctx, schedule(s.cfg.Seed, s.cfg.Duration, len(s.venue.cluster.Members())), timeUp)
}

// recoveryTime is how long a fault may last beyond the time of the drill.
const recoveryTime = 30 * time.Second

var errNoRecovery = fmt.Errorf("the cluster did not recover from a fault within %v", recoveryTime)

// history reads every change of the keys that the calls wrote. The last one is
// a mark of the drill's own.
func (s *side) history(ctx context.Context) (*check.Log, error) {
	defer s.phase("history", 0)()
	truth, err := s.venue.truth(ctx)
	if err != nil {
		return nil, err
	}
	mark, err := truth.Put(ctx, s.load.prefix+"end", "")
	if err != nil {
		return nil, err
	}
	s.settle(ctx, mark.Header.Revision)
	return check.ReadLog(ctx, truth, s.load.prefix, s.venue.first+1, mark.Header.Revision)
}

func (s *side) elapsed() time.Duration { return time.Since(s.start) }

// lasting runs f as a phase, and tells it when time is up.
func (s *side) lasting(ctx context.Context, name string, takes time.Duration, f func(timeUp <-chan struct{})) {
	defer s.phase(name, takes)()
	ctx, cancel := context.WithTimeout(ctx, takes)
	defer cancel()
	f(ctx.Done())
}

// phase tells the observer that a phase begins, and returns what tells it that
// it is over.
func (s *side) phase(name string, takes time.Duration) (over func()) {
	p := Phase{Side: s.result.Name, Name: name, Takes: takes, Count: s.load.calls.count}
	s.cfg.Watch.Begin(p)
	return func() { s.cfg.Watch.End(p) }
}
