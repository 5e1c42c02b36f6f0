package main

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// allGroups returns what is measured, in the order of the table, and a function
// that releases what the groups hold.
func allGroups() ([]group, func(), error) {
	conn, closeConn, err := connectionGroup()
	if err != nil {
		return nil, nil, err
	}
	timer, cancel := timerGroup()
	return []group{
		successGroup(),
		loadedSuccessGroup(),
		timeoutGroup(),
		oneFailureGroup(),
		timer,
		refusedGroup(),
		conn,
	}, func() { cancel(); closeConn() }, nil
}

type (
	request  = grpc_health_v1.HealthCheckRequest
	response = grpc_health_v1.HealthCheckResponse
)

var (
	req            = new(request)
	resp           = new(response)
	errUnavailable = status.Error(codes.Unavailable, "try again")
	errInvalid     = status.Error(codes.InvalidArgument, "no use")
	retried        = []codes.Code{codes.Unavailable}

	errNone   = errors.New("the call was to fail and did not")
	errSome   = errors.New("the call failed with another error")
	errAnswer = errors.New("the call was made, but its reply was lost on the way")
)

// answer is a stub that answers at once, so that what is measured is the cost of
// calling it.
//
//go:noinline
func answer(context.Context, *request, ...grpc.CallOption) (*response, error) {
	return resp, nil
}

// refuse is a stub whose error nobody retries.
//
//go:noinline
func refuse(context.Context, *request, ...grpc.CallOption) (*response, error) {
	return nil, errInvalid
}

// flaky fails every other call, the first one first.
type flaky struct{ calls int }

//go:noinline
func (f *flaky) call() error {
	f.calls++
	if f.calls%2 == 1 {
		return errUnavailable
	}
	return nil
}

// repeat makes a contender's calls out of one call.
func repeat(call func() error) func(n int) error {
	return func(n int) error {
		for range n {
			if err := call(); err != nil {
				return err
			}
		}
		return nil
	}
}

// repeatFailing does so for a call that has to fail with want.
func repeatFailing(want error, call func() error) func(n int) error {
	return repeat(func() error {
		err := call()
		switch {
		case err == nil:
			return errNone
		case errors.Is(err, want) || status.Code(err) == status.Code(want):
			return nil
		}
		return errors.Join(errSome, err)
	})
}
