package etcdcall

import (
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
)

// verdict is what a Retryer answers to an error.
type verdict uint8

const (
	// stop: the same request would fail the same way.
	stop verdict = iota
	// retry: the request may be sent again.
	retry
	// ambiguous: the write may have been applied; sending it again is unsafe.
	ambiguous
)

// String returns the word that stands for the verdict in docs/etcd-errors.md.
func (v verdict) String() string {
	switch v {
	case retry:
		return "retry"
	case ambiguous:
		return "ambiguous"
	default:
		return "stop"
	}
}

// rule is one row of the classification: an error, whether a request that got
// it was applied, and what becomes of a read and of a write.
//
// limit is the number of retries after which the error is returned all the
// same; zero is no limit of its own: the call's deadline, attempts and elapsed
// time bound it.
type rule struct {
	name    string
	server  error  // rpctypes error on the wire; its message is what is matched
	message string // the message, where rpctypes has no error for it
	applied Outcome
	read    verdict
	write   verdict
	limit   int
	action  string
}

// How often an error that may heal, but often does not, is tried again.
const (
	tokenRetries   = 3 // the token is refreshed before each
	stateRetries   = 8 // a member that lags, is a learner or an older release
	noOwnLimit     = 0
	actionDeadline = "back off and try again until the call's deadline"
	actionCaller   = "return it: the request itself is refused"
	actionVerify   = "return it: whether the write happened must be read back"
)

// serverRules holds what an etcd server answers, by message: the code is not
// matched, since servers of different releases give different codes for the
// same message and some errors reach the client as code Unknown.
//
// The reason for each "applied" stands in the server's code: NotApplied errors
// are raised before the proposal, or by the applier before it changes anything;
// Unknown ones can be raised after the proposal was handed to raft.
var serverRules = []rule{
	// Leadership and load.
	{"ErrNoLeader", rpctypes.ErrGRPCNoLeader, "", NotApplied, retry, retry, noOwnLimit, actionDeadline},
	{"ErrNotLeader", rpctypes.ErrGRPCNotLeader, "", NotApplied, stop, stop, noOwnLimit, "return it: ask the leader, which Status names"},
	{"ErrLeaderChanged", rpctypes.ErrGRPCLeaderChanged, "", NotApplied, retry, retry, noOwnLimit, actionDeadline},
	{"ErrNotCapable", rpctypes.ErrGRPCNotCapable, "", NotApplied, retry, retry, stateRetries, "back off: the cluster has not settled on a version yet"},
	{"ErrNotSupportedForLearner", rpctypes.ErrGRPCNotSupportedForLearner, "", NotApplied, retry, retry, stateRetries, "try the next endpoint; return it when all are learners"},
	{"ErrTooManyRequests", rpctypes.ErrGRPCRequestTooManyRequests, "", NotApplied, retry, retry, noOwnLimit, "back off and count against the throttle"},
	{"ErrUnhealthy", rpctypes.ErrGRPCUnhealthy, "", NotApplied, retry, retry, noOwnLimit, actionDeadline},
	{"ErrStopped", rpctypes.ErrGRPCStopped, "", Unknown, retry, ambiguous, noOwnLimit, "reads: next endpoint; writes: " + actionVerify},
	{"ErrTimeout", rpctypes.ErrGRPCTimeout, "", Unknown, retry, ambiguous, noOwnLimit, "reads: back off; writes: " + actionVerify},
	{"ErrTimeoutDueToLeaderFail", rpctypes.ErrGRPCTimeoutDueToLeaderFail, "", Unknown, retry, ambiguous, noOwnLimit, "reads: back off; writes: " + actionVerify},
	{"ErrTimeoutDueToConnectionLost", rpctypes.ErrGRPCTimeoutDueToConnectionLost, "", Unknown, retry, ambiguous, noOwnLimit, "reads: back off; writes: " + actionVerify},
	{"ErrTimeoutWaitAppliedIndex", rpctypes.ErrGRPCTimeoutWaitAppliedIndex, "", NotApplied, retry, retry, noOwnLimit, "try the next endpoint: this member lags"},
	{"ErrGRPCCanceled", rpctypes.ErrGRPCCanceled, "", Unknown, retry, ambiguous, noOwnLimit, "reads: back off while the context lives; writes: " + actionVerify},
	{"ErrGRPCDeadlineExceeded", rpctypes.ErrGRPCDeadlineExceeded, "", Unknown, retry, ambiguous, noOwnLimit, "reads: back off while the context lives; writes: " + actionVerify},
	{"ErrCorrupt", rpctypes.ErrGRPCCorrupt, "", NotApplied, stop, stop, noOwnLimit, "return it: an operator has to look at the cluster"},
	{"ErrNoSpace", rpctypes.ErrGRPCNoSpace, "", Unknown, stop, ambiguous, noOwnLimit, actionVerify + "; compact, defragment and disarm first"},

	// Requests that can never succeed as they are.
	{"ErrRequestTooLarge", rpctypes.ErrGRPCRequestTooLarge, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrTooManyOps", rpctypes.ErrGRPCTooManyOps, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrDuplicateKey", rpctypes.ErrGRPCDuplicateKey, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrEmptyKey", rpctypes.ErrGRPCEmptyKey, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrKeyNotFound", rpctypes.ErrGRPCKeyNotFound, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrValueProvided", rpctypes.ErrGRPCValueProvided, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrLeaseProvided", rpctypes.ErrGRPCLeaseProvided, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrInvalidSortOption", rpctypes.ErrGRPCInvalidSortOption, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrInvalidClientAPIVersion", rpctypes.ErrGRPCInvalidClientAPIVersion, "", NotApplied, stop, stop, noOwnLimit, actionCaller},

	// Revisions.
	{"ErrCompacted", rpctypes.ErrGRPCCompacted, "", NotApplied, stop, stop, noOwnLimit, "return it: read at a newer revision; for Compact it means done"},
	{"ErrFutureRev", rpctypes.ErrGRPCFutureRev, "", NotApplied, retry, retry, stateRetries, "try the next endpoint: this member lags; if it stays, the revision does not exist"},
	{"ErrWatchCanceled", rpctypes.ErrGRPCWatchCanceled, "", NotApplied, retry, stop, noOwnLimit, "resume the watch"},

	// Leases.
	{"ErrLeaseNotFound", rpctypes.ErrGRPCLeaseNotFound, "", NotApplied, stop, stop, noOwnLimit, "return it: grant anew; after an ambiguous Revoke it means done"},
	{"ErrLeaseExist", rpctypes.ErrGRPCLeaseExist, "", NotApplied, stop, stop, noOwnLimit, "return it; after an ambiguous Grant of a chosen id it means done"},
	{"ErrLeaseTTLTooLarge", rpctypes.ErrGRPCLeaseTTLTooLarge, "", NotApplied, stop, stop, noOwnLimit, actionCaller},

	// Membership.
	{"ErrMemberNotEnoughStarted", rpctypes.ErrGRPCMemberNotEnoughStarted, "", NotApplied, retry, retry, noOwnLimit, actionDeadline},
	{"ErrLearnerNotReady", rpctypes.ErrGRPCLearnerNotReady, "", NotApplied, retry, retry, noOwnLimit, "poll until the learner has caught up"},
	{"ErrMemberExist", rpctypes.ErrGRPCMemberExist, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrPeerURLExist", rpctypes.ErrGRPCPeerURLExist, "", NotApplied, stop, stop, noOwnLimit, "return it; after an ambiguous Add MemberList tells whether it means done"},
	{"ErrMemberNotFound", rpctypes.ErrGRPCMemberNotFound, "", NotApplied, stop, stop, noOwnLimit, "return it; after an ambiguous Remove MemberList tells whether it means done"},
	{"ErrMemberNotLearner", rpctypes.ErrGRPCMemberNotLearner, "", Unknown, stop, ambiguous, noOwnLimit, "return it; after an ambiguous Promote MemberList tells whether it means done"},
	{"ErrTooManyLearners", rpctypes.ErrGRPCTooManyLearners, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrMemberBadURLs", rpctypes.ErrGRPCMemberBadURLs, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrClusterIDMismatch", rpctypes.ErrGRPCClusterIDMismatch, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrBadLeaderTransferee", rpctypes.ErrGRPCBadLeaderTransferee, "", NotApplied, stop, stop, noOwnLimit, actionCaller},

	// Authentication and authorization.
	{"ErrInvalidAuthToken", rpctypes.ErrGRPCInvalidAuthToken, "", NotApplied, retry, retry, tokenRetries, "refresh the token and try again"},
	{"ErrAuthOldRevision", rpctypes.ErrGRPCAuthOldRevision, "", NotApplied, retry, retry, tokenRetries, "refresh the token (none with certificates) and try again"},
	{"ErrUserEmpty", rpctypes.ErrGRPCUserEmpty, "", NotApplied, retry, retry, tokenRetries, "with a user name set: refresh the token and try again; otherwise return it"},
	{"ErrPermissionDenied", rpctypes.ErrGRPCPermissionDenied, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrAuthFailed", rpctypes.ErrGRPCAuthFailed, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrAuthNotEnabled", rpctypes.ErrGRPCAuthNotEnabled, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrInvalidAuthMgmt", rpctypes.ErrGRPCInvalidAuthMgmt, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrRootUserNotExist", rpctypes.ErrGRPCRootUserNotExist, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrRootRoleNotExist", rpctypes.ErrGRPCRootRoleNotExist, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrUserAlreadyExist", rpctypes.ErrGRPCUserAlreadyExist, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrUserNotFound", rpctypes.ErrGRPCUserNotFound, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrRoleAlreadyExist", rpctypes.ErrGRPCRoleAlreadyExist, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrRoleNotFound", rpctypes.ErrGRPCRoleNotFound, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrRoleEmpty", rpctypes.ErrGRPCRoleEmpty, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrRoleNotGranted", rpctypes.ErrGRPCRoleNotGranted, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrPermissionNotGranted", rpctypes.ErrGRPCPermissionNotGranted, "", NotApplied, stop, stop, noOwnLimit, actionDone},
	{"ErrPermissionNotGiven", rpctypes.ErrGRPCPermissionNotGiven, "", NotApplied, stop, stop, noOwnLimit, actionCaller},

	// Downgrade.
	{"ErrWrongDowngradeVersionFormat", rpctypes.ErrGRPCWrongDowngradeVersionFormat, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrInvalidDowngradeTargetVersion", rpctypes.ErrGRPCInvalidDowngradeTargetVersion, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrClusterVersionUnavailable", rpctypes.ErrGRPCClusterVersionUnavailable, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrDowngradeInProcess", rpctypes.ErrGRPCDowngradeInProcess, "", NotApplied, stop, stop, noOwnLimit, actionCaller},
	{"ErrNoInflightDowngrade", rpctypes.ErrGRPCNoInflightDowngrade, "", NotApplied, stop, stop, noOwnLimit, actionCaller},

	// Errors that a server passes on without a name in rpctypes.
	{"raft proposal dropped", nil, "raft proposal dropped", NotApplied, retry, retry, noOwnLimit, actionDeadline},
	{"not a primary lessor", nil, "not a primary lessor", NotApplied, retry, retry, noOwnLimit, "back off: the leader has just changed"},
	{"raft: stopped", nil, "raft: stopped", Unknown, retry, ambiguous, noOwnLimit, "reads: next endpoint; writes: " + actionVerify},
	{"leader transfer timeout", nil, "etcdserver: request timed out, leader transfer took too long", Unknown, retry, ambiguous, noOwnLimit, "reads: back off; writes: " + actionVerify},
}

const actionDone = "return it; after an ambiguous attempt it means done"

// transportRule is one row for a failure that no etcd server named: it comes
// from the client's own gRPC stack, from the connection or from a hop.
type transportRule struct {
	rule
	code codes.Code
	// unsent rows hold only when the attempt record shows that the request
	// never left; anyCode rows hold for every code.
	unsent  bool
	anyCode bool
	// text, when set, must be part of the status message.
	text string
}

// transportRules are tried in order; the first that fits counts.
var transportRules = []transportRule{
	{rule: rule{name: "the client was closed, request never sent", applied: NotApplied, read: stop, write: stop, action: "return it"},
		code: codes.Canceled, unsent: true, text: textConnClosing},
	{rule: rule{name: "no connection, request never sent (refused, unresolved, still connecting)", applied: NotApplied, read: retry, write: retry, action: actionDeadline},
		code: codes.Unavailable, unsent: true},
	{rule: rule{name: "attempt ended before the request was sent", applied: NotApplied, read: retry, write: retry, action: "back off while the context lives"},
		code: codes.DeadlineExceeded, unsent: true},
	{rule: rule{name: "attempt cancelled before the request was sent", applied: NotApplied, read: retry, write: retry, action: "back off while the context lives"},
		code: codes.Canceled, unsent: true},
	{rule: rule{name: "request larger than the client sends", applied: NotApplied, read: stop, write: stop, action: "return it: raise MaxCallSendMsgSize or send less"},
		code: codes.ResourceExhausted, unsent: true, text: textSendTooLarge},
	{rule: rule{name: "ResourceExhausted before the request was sent (flow control, ENHANCE_YOUR_CALM)", applied: NotApplied, read: retry, write: retry, action: actionDeadline},
		code: codes.ResourceExhausted, unsent: true},
	{rule: rule{name: "refused by the client's own stack (credentials, marshalling)", applied: NotApplied, read: stop, write: stop, action: "return it"},
		anyCode: true, unsent: true},

	{rule: rule{name: "the client was closed", applied: Unknown, read: stop, write: ambiguous, action: "return it"},
		code: codes.Canceled, text: textConnClosing},
	{rule: rule{name: "RST_STREAM with REFUSED_STREAM", applied: NotApplied, read: retry, write: retry, action: "try again: HTTP/2 promises that the request was not processed (RFC 9113, 8.7)"},
		code: codes.Unavailable, text: "error code: REFUSED_STREAM"},
	{rule: rule{name: "Unavailable (connection lost, reset or draining, keepalive timeout, HTTP 429, 502, 503, 504)", applied: Unknown, read: retry, write: ambiguous, action: "reads: back off; writes: " + actionVerify},
		code: codes.Unavailable},
	{rule: rule{name: "DeadlineExceeded (of the attempt, a server or a hop)", applied: Unknown, read: retry, write: ambiguous, action: "reads: back off while the context lives; writes: " + actionVerify},
		code: codes.DeadlineExceeded},
	{rule: rule{name: "Canceled (by a server or a hop, such as RST_STREAM with CANCEL)", applied: Unknown, read: retry, write: ambiguous, action: "reads: back off while the context lives; writes: " + actionVerify},
		code: codes.Canceled},
	{rule: rule{name: "response larger than the client accepts", applied: Unknown, read: stop, write: ambiguous, action: "return it: raise MaxCallRecvMsgSize or read less"},
		code: codes.ResourceExhausted, text: "received message larger than max"},
	{rule: rule{name: "response larger than the server sends", applied: Unknown, read: stop, write: ambiguous, action: "return it: read less"},
		code: codes.ResourceExhausted, text: textSendTooLarge},
	{rule: rule{name: "ResourceExhausted (flow control, ENHANCE_YOUR_CALM)", applied: Unknown, read: retry, write: ambiguous, action: "reads: back off; writes: " + actionVerify},
		code: codes.ResourceExhausted},
	{rule: rule{name: "Internal (broken framing, HTTP/2 protocol error)", applied: Unknown, read: retry, write: ambiguous, action: "reads: back off; writes: " + actionVerify},
		code: codes.Internal},
	{rule: rule{name: "Unimplemented", applied: NotApplied, read: stop, write: stop, action: "return it: the server does not know the method"},
		code: codes.Unimplemented},
	{rule: rule{name: "anything else", applied: Unknown, read: stop, write: ambiguous, action: actionVerify},
		anyCode: true},
}

// Parts of grpc-go's messages that tell apart what one code lumps together.
// None of them decides that a write is sent again after it may have been sent
// before, except REFUSED_STREAM, which is part of the HTTP/2 specification.
const (
	textConnClosing  = "the client connection is closing"
	textSendTooLarge = "trying to send message larger than max"
)
