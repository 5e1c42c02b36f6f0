package drill

import (
	"math/rand/v2"
	"time"
)

// Fault is a kind of fault.
type Fault string

// The kinds of faults. Each strikes at least once.
const (
	KillLeader   Fault = "kill the leader"
	CutLink      Fault = "cut a link"
	LoseResponse Fault = "lose a response"
	ResetStream  Fault = "reset a stream"
)

// Faults returns all kinds.
func Faults() []Fault { return []Fault{KillLeader, CutLink, LoseResponse, ResetStream} }

// A strike is one fault at its time.
type strike struct {
	at     time.Duration // since the faults began
	fault  Fault
	hold   time.Duration // how long a member is away, or a link is cut
	member int           // whose link is cut
	peers  bool          // whether it is cut from its peers, or from clients
	calls  int           // how many writes are hit
	after  bool          // whether a reset comes after the write was applied
}

// schedule plans the strikes of a drill. They are spread over its time, first
// one of each kind.
func schedule(seed uint64, lasting time.Duration, members int) []strike {
	const every = 350 * time.Millisecond
	random := rand.New(rand.NewPCG(seed, 0xfa17))
	kinds := Faults()
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })

	strikes := make([]strike, max(len(kinds), int(lasting/every)))
	slot := lasting * 9 / 10 / time.Duration(len(strikes))
	for i := range strikes {
		s := &strikes[i]
		s.at = slot*time.Duration(i) + time.Duration(random.Int64N(int64(slot)))
		if s.fault = kinds[random.IntN(len(kinds))]; i < len(kinds) {
			s.fault = kinds[i]
		}
		s.hold = 50*time.Millisecond + time.Duration(random.Int64N(int64(200*time.Millisecond)))
		s.member = random.IntN(members)
		s.peers = random.IntN(2) == 0
		s.calls = 1 + random.IntN(5)
		s.after = random.IntN(4) > 0
	}
	return strikes
}
