package oncemodel

// Bounds of the model. Calls and identities are numbered from 1.
const (
	maxClients = 2
	maxCalls   = 3
	maxIdents  = 3
	maxMsgs    = 6
	maxRev     = 7
	leaseTTL   = 2
)

type phase uint8

const (
	idle     phase = iota // no identity
	granting              // waiting for the identity lease
	creating              // waiting for the slot
	ready                 // identity and a free slot
	calling               // a write is under way
	sealing               // the write was refused; making sure that it stays so
	fencing               // the slot is retired; waiting for a higher number in it
	gone                  // nothing more to do
)

type outcome uint8

const (
	pending    outcome = iota
	acked              // with a revision and a result
	notApplied         // for certain
	unknown            // out of tries or time
	lost               // unknown, because the identity was lost
	stopped            // unknown, because the identity's lease may have expired
	crashed
)

type kind uint8

const (
	none kind = iota
	grantReq
	createReq
	writeReq
	sealReq
	fenceReq
	grantResp
	createResp
	writeResp
	sealResp
	fenceResp
)

type status uint8

const (
	statusOK            status = iota
	statusElse                 // the guard was false; what the slot holds is told
	statusMissing              // the guard was false; there is no slot
	statusLeaseNotFound        // a lease was missing; nobody says which
	statusNoSpace              // handled or not, and nobody says which
)

// message is a request or a response under way. Messages of one attempt are
// equal, so that a duplicate needs no room of its own.
type message struct {
	kind   kind
	client uint8
	try    uint8 // a response is heard only by the attempt that waits for it
	call   uint8
	ident  uint8
	seq    uint8
	sentAt uint8

	status status
	rev    uint8
	result uint8
	held   slot
}

// slot is a record: the number of the last write, whose it was, and the
// revision, which etcd keeps beside every key.
type slot struct {
	present bool
	sealed  bool
	seq     uint8
	call    uint8
	rev     uint8
}

type lease struct {
	granted  bool
	alive    bool
	deadline uint8
}

type client struct {
	phase    phase
	call     uint8 // the call under way, or the last one
	ident    uint8
	deadline uint8 // no attempt is sent from here on
	seq      uint8
	try      uint8
	everSent bool
	inFlight bool // when a write was refused, an attempt before had no answer
}

// call is what the model knows of a call and no participant does.
type call struct {
	applied  uint8
	rev      uint8
	result   uint8
	bornDead bool // its first attempt was sent when its slot could not be there
	outcome  outcome
}

// budget bounds what the environment may still do.
type budget struct {
	ticks      uint8
	duplicates uint8
	expiries   uint8
	crashes    uint8
	outsider   uint8
	userLease  uint8
	space      uint8
}

type state struct {
	now       uint8
	rev       uint8
	lastIdent uint8
	userLease bool
	full      bool // the store is out of space
	meddled   bool // the outsider deleted a slot
	value     [maxRev + 1]uint8
	leases    [maxIdents + 1]lease
	slots     [maxIdents + 1]slot
	calls     [maxCalls + 1]call
	clients   [maxClients]client
	net       [maxMsgs]message // sorted, so that equal sets are equal states
	left      budget
}

// variant leaves rules of the protocol out. The zero value is the protocol.
type variant struct {
	noRecord                  bool // a write carries neither guard nor record
	slotNotPreCreated         bool // the first write is trusted to make the slot
	slotCreatedBlindly        bool // the creation does not look whether the slot is there
	missingTakenForNotApplied bool
	slotRecreated             bool // a missing slot is created again, the call retried
	sameLeaseGrantedAgain     bool // the new identity asks for the lease of the old one
	reusedWithSameNumber      bool // an abandoned call's slot and number serve the next call
	reusedAtOnce              bool // the next call does not wait for a higher number in the slot
	expiryFromReceipt         bool // the lease's end is judged from the answer's arrival
	keptPastExpiry            bool // the lease's end is not judged at all
	replayOfLatest            bool // the response is rebuilt from the state of now
	replayIgnoresOwnWrites    bool
	leaseErrorTakenForUsers   bool // LeaseNotFound always means the user's lease
	leaseErrorTakenForOurs    bool // LeaseNotFound always means the identity's lease
	slotBelievedTooEarly      bool // a slot that could not be sealed is believed with an attempt under way
}

// bounds is one way of exploring: who calls what, and what may go wrong.
type bounds struct {
	name       string
	owner      [maxCalls + 1]uint8 // the client of each call, plus one; 0 for no such call
	withLease  [maxCalls + 1]bool  // the call attaches the user's lease
	tries      uint8
	setupTries uint8
	left       budget
}

func (s *state) send(m message) bool {
	for i := range s.net {
		if s.net[i].kind == none {
			for i > 0 && less(m, s.net[i-1]) {
				s.net[i] = s.net[i-1]
				i--
			}
			s.net[i] = m
			return true
		}
	}
	return false
}

func (s *state) take(at int) {
	copy(s.net[at:], s.net[at+1:])
	s.net[maxMsgs-1] = message{}
}

// forgetResponses drops the responses that a client no longer waits for. Its
// requests stay under way.
func (s *state) forgetResponses(client uint8) {
	for i := maxMsgs - 1; i >= 0; i-- {
		if s.net[i].kind >= grantResp && s.net[i].client == client {
			s.take(i)
		}
	}
}

func less(a, b message) bool {
	if a.kind != b.kind {
		return a.kind < b.kind
	}
	if a.client != b.client {
		return a.client < b.client
	}
	if a.ident != b.ident {
		return a.ident < b.ident
	}
	if a.seq != b.seq {
		return a.seq < b.seq
	}
	if a.call != b.call {
		return a.call < b.call
	}
	return a.try < b.try
}
