package oncemodel

// nextCall gives the number of the first call of c that has not begun, or 0.
func (m *model) nextCall(s *state, c uint8) uint8 {
	for n := uint8(1); n <= maxCalls; n++ {
		if m.owner[n] == c+1 && n > s.clients[c].call {
			return n
		}
	}
	return 0
}

// clientSteps emits what client c may do of its own accord: begin a call, give
// up an attempt and send the next, crash.
func (m *model) clientSteps(s state, c uint8) {
	cl := &s.clients[c]
	switch cl.phase {
	case idle:
		if m.nextCall(&s, c) != 0 {
			m.request(s, c, granting, "asks for a lease")
		}
	case ready:
		if m.nextCall(&s, c) == 0 {
			break
		}
		if !m.keptPastExpiry && s.now >= cl.deadline {
			cl.phase, cl.ident = idle, 0
			m.emit(s, "gives up an identity that may have expired", c, "")
			break
		}
		cl.call = m.nextCall(&s, c)
		cl.seq++
		m.request(s, c, calling, "begins a call")
	case granting, creating, calling, sealing, fencing:
		m.retry(s, c)
	}
	if s.left.crashes > 0 && cl.phase != idle && cl.phase != gone {
		s.left.crashes--
		s.forgetResponses(c)
		if cl.phase == calling || cl.phase == sealing {
			s.calls[cl.call].outcome = crashed
			m.reached[crashed] = true
		}
		*cl = client{call: cl.call}
		m.emit(s, "crashes", c, "")
	}
}

// retry gives up the attempt of a client that waits, which may be answered or
// not, and sends another if it may.
func (m *model) retry(s state, c uint8) {
	cl := &s.clients[c]
	setup := cl.phase == granting || cl.phase == creating
	switch {
	case setup && cl.try < m.setupTries, !setup && cl.try < m.tries:
		if (cl.phase == calling || cl.phase == sealing) && !m.keptPastExpiry && s.now >= cl.deadline {
			m.end(s, c, stopped, "stops before its lease can have expired")
			return
		}
		m.request(s, c, cl.phase, "tries again")
	case cl.phase == calling || cl.phase == sealing:
		m.end(s, c, unknown, "abandons its call")
	default:
		s.forgetResponses(c)
		cl.phase = gone
		m.emit(s, "goes away", c, "")
	}
}

// request puts the client into a phase and sends the phase's request.
func (m *model) request(s state, c uint8, p phase, label string) {
	cl := &s.clients[c]
	s.forgetResponses(c)
	if cl.phase != p {
		cl.phase, cl.try = p, 0
	}
	cl.try++
	req := message{client: c, try: cl.try, ident: cl.ident, sentAt: s.now}
	bad := ""
	switch p {
	case granting:
		req.kind = grantReq
	case creating:
		req.kind = createReq
	case calling:
		req.kind, req.call, req.seq = writeReq, cl.call, cl.seq
		if cl.try == 1 && !cl.everSent {
			cl.everSent = true
			bad = m.firstSend(&s, c)
		}
	case sealing:
		req.kind, req.call, req.seq = sealReq, cl.call, cl.seq
	case fencing:
		req.kind, req.seq = fenceReq, cl.seq
	}
	if s.send(req) {
		m.emit(s, label, c, bad)
	}
}

// firstSend looks at what a call is sent into. No earlier call may still take
// effect through the same slot.
func (m *model) firstSend(s *state, c uint8) string {
	cl := &s.clients[c]
	sl := s.slots[cl.ident]
	s.calls[cl.call].bornDead = !sl.present && !s.meddled
	for _, o := range s.net {
		if o.kind == writeReq && o.ident == cl.ident && o.call != cl.call && sl.present && sl.seq < o.seq && o.seq < cl.seq {
			return "a slot serves a call while another can still take effect through it"
		}
	}
	return ""
}

// end ends the client's call.
func (m *model) end(s state, c uint8, o outcome, label string) {
	cl := &s.clients[c]
	s.forgetResponses(c)
	s.calls[cl.call].outcome = o
	m.reached[o] = true
	cl.try, cl.everSent, cl.inFlight = 0, false, false
	if o == notApplied && s.calls[cl.call].applied > 0 {
		m.emit(s, label, c, "reported as not applied after it was applied")
		return
	}
	switch {
	case o == lost || o == stopped:
		bad := ""
		if o == lost && s.calls[cl.call].bornDead {
			bad = "a call was begun on an identity that was not there"
		}
		if o == lost && s.slots[cl.ident].present && s.leases[cl.ident].alive {
			bad = "an identity that lives was called lost"
		}
		if !m.sameLeaseGrantedAgain {
			cl.ident = 0
		}
		cl.phase, cl.seq, cl.deadline = idle, 0, 0
		m.emit(s, label, c, bad)
	case o != unknown || m.reusedWithSameNumber || m.reusedAtOnce || m.noRecord:
		if o == unknown && m.reusedWithSameNumber {
			cl.seq--
		}
		cl.phase = ready
		m.emit(s, label, c, "")
	case m.nextCall(&s, c) == 0:
		cl.phase = gone
		m.emit(s, label, c, "")
	default:
		cl.seq++
		m.request(s, c, fencing, label)
	}
}

// hear takes a response. Those that nobody waits for were dropped before.
func (m *model) hear(s state, r message) {
	c := r.client
	cl := &s.clients[c]
	switch r.kind {
	case grantResp:
		cl.ident = r.ident
		cl.deadline = r.sentAt + leaseTTL
		if m.expiryFromReceipt {
			cl.deadline = s.now + leaseTTL
		}
		if m.slotNotPreCreated {
			cl.phase, cl.try, cl.seq = ready, 0, 0
			m.emit(s, "has a lease", c, "")
			return
		}
		m.request(s, c, creating, "has a lease, creates its slot")
	case createResp:
		switch {
		case r.status == statusLeaseNotFound:
			*cl = client{call: cl.call}
			m.emit(s, "lost its lease early", c, "")
		case cl.everSent: // the slot was created again for a call under way
			m.request(s, c, calling, "tries again in the new slot")
		default:
			cl.phase, cl.try, cl.seq = ready, 0, 0
			m.emit(s, "has its slot", c, "")
		}
	case writeResp:
		m.hearWrite(s, r)
	case sealResp:
		m.hearSeal(s, r)
	case fenceResp:
		if r.status == statusNoSpace {
			m.retry(s, c)
			return
		}
		if r.status == statusOK {
			cl.phase, cl.try = ready, 0
			m.fenced = true
		} else {
			*cl = client{call: cl.call}
		}
		m.emit(s, "hears of its fence", c, "")
	}
}

func (m *model) hearWrite(s state, r message) {
	c := r.client
	switch r.status {
	case statusOK:
		m.acknowledge(s, c, r.rev, r.result, "is acknowledged")
	case statusElse:
		m.recover(s, c, r.held)
	case statusMissing:
		switch {
		case m.slotRecreated:
			m.request(s, c, creating, "creates its slot again")
		case m.missingTakenForNotApplied:
			m.end(s, c, notApplied, "takes the missing slot for a refusal")
		default:
			m.end(s, c, lost, "finds its slot missing")
		}
	case statusLeaseNotFound:
		switch {
		case m.leaseErrorTakenForUsers || m.noRecord:
			m.end(s, c, notApplied, "hears of a missing lease")
		case m.leaseErrorTakenForOurs || !m.withLease[r.call]:
			m.end(s, c, lost, "hears of a missing lease")
		default:
			m.seal(s, c, "hears of a missing lease, seals")
		}
	case statusNoSpace:
		m.seal(s, c, "hears that there is no space, seals")
	}
}

// seal begins to seal a call that was refused.
func (m *model) seal(s state, c uint8, label string) {
	s.clients[c].inFlight = s.clients[c].try > 1
	m.request(s, c, sealing, label)
}

func (m *model) hearSeal(s state, r message) {
	switch {
	case r.status == statusOK || r.status == statusElse && r.held.sealed:
		m.end(s, r.client, notApplied, "knows that its call never happens")
	case r.status == statusElse:
		m.recover(s, r.client, r.held)
	case r.status == statusNoSpace:
		m.settle(s, r.client)
	default:
		m.end(s, r.client, lost, "finds its identity missing")
	}
}

// settle reads the slot of a call that could not be sealed for want of space.
// What it holds is final unless an attempt is under way.
func (m *model) settle(s state, c uint8) {
	cl := s.clients[c]
	held := s.slots[cl.ident]
	switch {
	case (cl.inFlight || cl.try > 1) && !m.slotBelievedTooEarly:
		m.end(s, c, unknown, "abandons its call")
	case !held.present:
		m.end(s, c, lost, "finds its slot missing")
	case held.seq == cl.seq && !held.sealed:
		m.recover(s, c, held)
	default:
		m.settled = true
		m.end(s, c, notApplied, "finds that its call was not applied")
	}
}

// recover rebuilds the response of a call that an earlier attempt applied.
func (m *model) recover(s state, c uint8, held slot) {
	before := s.value[held.rev-1]
	if m.replayOfLatest {
		before = s.value[s.rev]
	}
	result := before + 1
	if m.replayIgnoresOwnWrites {
		result = before
	}
	m.recovered = true
	m.acknowledge(s, c, held.rev, result, "recovers its response")
}

func (m *model) acknowledge(s state, c, rev, result uint8, label string) {
	truth := s.calls[s.clients[c].call]
	bad := ""
	switch {
	case truth.applied == 0:
		bad = "acknowledged, but never applied"
	case truth.rev != rev:
		bad = "acknowledged with another call's revision"
	case truth.result != result:
		bad = "acknowledged with a wrong result"
	}
	m.endWith(s, c, label, bad)
}

func (m *model) endWith(s state, c uint8, label, bad string) {
	if bad != "" {
		m.emit(s, label, c, bad)
		return
	}
	m.end(s, c, acked, label)
}
