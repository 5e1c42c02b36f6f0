package concurrency

import (
	"math/rand/v2"
	"time"

	"github.com/reprise-go/reprise"
)

// conflicts decides what follows a conflict. Of those who work on one key, one commits
// in each round trip, however many try. A round trip in which nobody tries is lost,
// while those who try in vain cost the servers work, and are the more the more
// clients there are. So a few should try at a time, on what the failed commit has
// brought, and the others keep away for some commits.
//
// How many the others are can only be told by losing to them: the more often, the
// rarer is another try at once.
type conflicts struct {
	pauses reprise.Backoff
	n      int
}

// triesAtOnce is after how many conflicts there is certainly no pause, and about
// how many should be trying where all have lost equally often.
const triesAtOnce = 2

// Retry implements reprise.Retryer.
func (c *conflicts) Retry(err error) (time.Duration, bool) {
	if err != errConflict { //nolint:errorlint // identity: a user's error may wrap another transaction's
		return 0, false
	}
	c.n++
	if rand.IntN(c.n) < triesAtOnce {
		return 0, true
	}
	return c.pauses.Pause(), true
}
