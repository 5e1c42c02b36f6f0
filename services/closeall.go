package services

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// CloseAll closes all of cs at the same time, waits for them, and returns
// their errors joined in the order in which they came. A panic of a Close
// becomes a *[PanicError], so that the others are waited for.
func CloseAll(cs ...io.Closer) error { return closeAll(cs) }

// MultiCloser returns an [io.Closer] whose Close closes all of cs as
// [CloseAll] does, for a slice of a type that implements io.Closer. The slice
// is not copied.
func MultiCloser[C io.Closer](cs []C) io.Closer { return multiCloser[C](cs) }

type multiCloser[C io.Closer] []C

func (m multiCloser[C]) Close() error { return closeAll(m) }

func closeAll[C io.Closer](cs []C) error {
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	for i, c := range cs {
		wg.Go(func() {
			err := errUnreturned
			defer func() {
				if err == nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}()
			if any(c) == nil {
				err = fmt.Errorf("closer %d of %d is nil", i+1, len(cs))
				return
			}
			err = protect(c.Close)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
