package oncemodel

// serverSteps emits the processing of every request under way, once for good
// and, while the budget lasts, once with a duplicate left behind.
func (m *model) networkSteps(s state) {
	for i := range s.net {
		msg := s.net[i]
		if msg.kind == none {
			break
		}
		if i > 0 && msg == s.net[i-1] {
			continue
		}
		if msg.kind >= grantResp {
			t := s
			t.take(i)
			m.hear(t, msg)
			continue
		}
		t := s
		t.take(i)
		m.serve(t, msg)
		if s.left.duplicates > 0 {
			t := s
			t.left.duplicates--
			m.serve(t, msg)
		}
	}
}

func (m *model) serve(s state, req message) {
	resp, label, bad := message{}, "", ""
	t := s
	switch req.kind {
	case grantReq:
		if req.ident == 0 && s.lastIdent == maxIdents {
			return // no more identities within the bounds
		}
		resp, label = m.serveGrant(&t, req), "grants a lease to"
	case createReq:
		resp, label = m.serveCreate(&t, req), "creates the slot of"
	case writeReq:
		resp, bad = m.serveWrite(&t, req)
		label = "handles a write of"
	case sealReq, fenceReq:
		resp, label = m.serveSeal(&t, req), "handles a seal of"
	}
	if s.full && req.kind >= writeReq {
		// etcd refuses either before or after it has handled the request.
		m.answer(s, req, message{status: statusNoSpace}, "has no space for", "")
		if resp.status != statusLeaseNotFound {
			resp = message{status: statusNoSpace}
		}
	}
	m.answer(t, req, resp, label, bad)
}

// answer sends the response to a request, if somebody waits for it.
func (m *model) answer(s state, req, resp message, label, bad string) {
	resp.client, resp.try, resp.ident, resp.sentAt = req.client, req.try, req.ident, req.sentAt
	if req.kind == grantReq {
		resp.ident = max(req.ident, s.lastIdent)
	}
	resp.kind, resp.call = req.kind+grantResp-grantReq, req.call
	if m.listens(&s, req) && !s.send(resp) {
		return // no room under way: explored with fewer messages
	}
	m.emit(s, label, req.client, bad)
}

// listens says whether the client still waits for this attempt.
func (m *model) listens(s *state, req message) bool {
	cl := s.clients[req.client]
	if cl.try != req.try || cl.call != req.call && req.call != 0 {
		return false
	}
	switch req.kind {
	case grantReq:
		return cl.phase == granting
	case createReq:
		return cl.phase == creating && cl.ident == req.ident
	case writeReq:
		return cl.phase == calling && cl.ident == req.ident
	case sealReq:
		return cl.phase == sealing && cl.ident == req.ident
	default:
		return cl.phase == fencing && cl.ident == req.ident && cl.seq == req.seq
	}
}

// serveGrant chooses a fresh id, unless the request names one, which only a
// broken client does.
func (m *model) serveGrant(s *state, req message) message {
	id := req.ident
	if id == 0 {
		s.lastIdent++
		id = s.lastIdent
	}
	s.leases[id] = lease{granted: true, alive: true, deadline: s.now + leaseTTL}
	return message{}
}

func (m *model) serveCreate(s *state, req message) message {
	if s.slots[req.ident].present && !m.slotCreatedBlindly {
		return message{}
	}
	if !s.leases[req.ident].alive {
		return message{status: statusLeaseNotFound}
	}
	s.slots[req.ident] = slot{present: true}
	return message{}
}

// guard is the comparison Value(slot) < seq, which is false for a missing key.
func guard(s *state, req message) (status, bool) {
	sl := s.slots[req.ident]
	switch {
	case !sl.present:
		return statusMissing, false
	case sl.seq >= req.seq:
		return statusElse, false
	}
	return statusOK, true
}

func (m *model) serveWrite(s *state, req message) (resp message, bad string) {
	if !m.noRecord {
		if st, ok := guard(s, req); !ok {
			return message{status: st, held: s.slots[req.ident]}, ""
		}
	}
	if m.withLease[req.call] && !s.userLease || !m.noRecord && !s.leases[req.ident].alive {
		return message{status: statusLeaseNotFound}, ""
	}
	if s.rev == maxRev {
		return message{status: statusMissing}, "the bound on revisions is too small"
	}
	s.rev++
	s.value[s.rev] = s.value[s.rev-1] + 1
	c := &s.calls[req.call]
	c.applied++
	switch {
	case c.applied > 1:
		bad = "applied twice"
	case c.outcome == notApplied:
		bad = "applied after it was reported as not applied"
	}
	c.rev, c.result = s.rev, s.value[s.rev]
	if !m.noRecord {
		s.slots[req.ident] = slot{present: true, seq: req.seq, call: req.call, rev: s.rev}
	}
	return message{rev: c.rev, result: c.result}, bad
}

// serveSeal writes a number into the slot and nothing else: as a seal the
// call's own, as a fence a higher one.
func (m *model) serveSeal(s *state, req message) message {
	if st, ok := guard(s, req); !ok {
		return message{status: st, held: s.slots[req.ident]}
	}
	if !s.leases[req.ident].alive {
		return message{status: statusLeaseNotFound}
	}
	s.slots[req.ident] = slot{present: true, sealed: true, seq: req.seq, call: req.call}
	return message{}
}

// environmentSteps emits what nobody asked for. A lease that is due expires
// in two steps, lease first, which is harder than what etcd does. The outsider
// keeps off slots whose creation is still under way: no protocol of keys alone
// can tell a store that has lost them from one that never had them.
func (m *model) environmentSteps(s state) {
	if s.left.ticks > 0 {
		t := s
		t.left.ticks--
		t.now++
		m.emit(t, "time passes", 0, "")
	}
	for id := uint8(1); id <= maxIdents; id++ {
		l := s.leases[id]
		if l.alive && s.now >= l.deadline && s.left.expiries > 0 {
			t := s
			t.left.expiries--
			t.leases[id].alive = false
			m.emit(t, "the lease expires", id, "")
		}
		if l.granted && !l.alive && s.slots[id].present {
			t := s
			t.slots[id] = slot{}
			m.emit(t, "the expired lease's slot goes", id, "")
		}
		if s.slots[id].present && s.left.outsider > 0 && !s.creationUnderWay(id) {
			t := s
			t.left.outsider--
			t.meddled = true
			t.slots[id] = slot{}
			m.emit(t, "an outsider deletes the slot", id, "")
		}
	}
	if s.left.userLease > 0 {
		t := s
		t.left.userLease--
		t.userLease = !t.userLease
		m.emit(t, "the user's lease comes or goes", 0, "")
	}
	if s.left.space > 0 {
		t := s
		t.left.space--
		t.full = !t.full
		m.emit(t, "the store runs out of space or gets some", 0, "")
	}
}

func (s *state) creationUnderWay(id uint8) bool {
	for _, m := range s.net {
		if m.kind == createReq && m.ident == id {
			return true
		}
	}
	return false
}
