package drill

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Config says what a drill does.
type Config struct {
	// Duration is how long each side is under faults, or under load if there
	// are none.
	Duration time.Duration
	// Seed decides the calls and the faults.
	Seed uint64
	// Rate is how many calls a second are offered to each side.
	Rate int
	// Clients is how many clients share the calls.
	Clients int
	// Timeout is the deadline of each call.
	Timeout time.Duration
	// ExactlyOnce makes Reprise's writes recoverable after an ambiguous failure.
	ExactlyOnce bool
	// Target, if set, is the cluster to run on, without faults. Otherwise each
	// side gets a cluster of three members in the process.
	Target *Target
	// Watch is told what happens meanwhile. It may be nil.
	Watch Observer
}

// Target is a cluster of the user's own.
type Target struct {
	Client clientv3.Config
	Prefix string // of all keys the drill writes, and deletes in the end
}

// Limits of a Config.
const (
	maxRate    = 20_000
	maxClients = 1_000
	minTime    = 100 * time.Millisecond
)

// Validate says what is wrong with the configuration, if anything is.
func (c *Config) Validate() error {
	switch {
	case c.Duration < minTime:
		return fmt.Errorf("duration is %v, want %v or more", c.Duration, minTime)
	case c.Timeout < minTime:
		return fmt.Errorf("timeout is %v, want %v or more", c.Timeout, minTime)
	case c.Rate < 1 || c.Rate > maxRate:
		return fmt.Errorf("rate is %d calls a second, want 1 to %d", c.Rate, maxRate)
	case c.Clients < 1 || c.Clients > maxClients:
		return fmt.Errorf("there are %d clients, want 1 to %d", c.Clients, maxClients)
	case c.Target != nil && c.Target.Prefix == "":
		return fmt.Errorf("the prefix is empty: the drill deletes everything under it")
	case c.Target != nil && len(c.Target.Client.Endpoints) == 0:
		return fmt.Errorf("there is no endpoint")
	}
	return nil
}

// quiet is how long each side runs without faults first, for comparison.
func (c *Config) quiet() time.Duration {
	if c.Target != nil {
		return 0
	}
	return min(max(c.Duration/5, time.Second), 3*time.Second)
}
