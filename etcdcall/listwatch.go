package etcdcall

// Origin says where the events of [Changes] come from.
type Origin int

const (
	// Watched events are changes as they happened.
	Watched Origin = iota
	// Listed events are synthetic: they put what the first list found.
	Listed
	// Resynced events are synthetic: they turn what was handed out before
	// into what a later list found, because the changes in between can no
	// longer be had.
	Resynced
)
