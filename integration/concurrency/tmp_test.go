package concurrency_test
import ("testing";"syscall";"time";"slices")
func cpu() time.Duration { var r syscall.Rusage; syscall.Getrusage(0,&r); return time.Duration(r.Utime.Nano()+r.Stime.Nano()) }
func TestTmp(t *testing.T) {
	for _, n := range []int{1} {
	c := direct(t, n)
	old, ours := newContest(t, 16), newContest(t, 16)
	for i := range 16 { old.lockers[i] = rawLock(t, c.plain(t), "old"); ours.lockers[i] = newLock(t, c.client(t), "ours") }
	ours.run(t, 160); ours.waits = nil
	c0 := cpu(); t0 := time.Now()
	r := ours.run(t, 3000)
	for i := 0; i < len(ours.waits); i += 1 { if ours.waits[i] > 40*time.Millisecond { t.Logf("locker %d, acquisition %d: %v", i/(3000/16), i%(3000/16), ours.waits[i]) } }
	slices.Sort(ours.waits)
	t.Logf("ours %v/s, cpu per lock %v, cpu utilisation %.2f, p50 %v p99 %v max %v worst/median %.1f", r, (cpu()-c0)/3000, float64(cpu()-c0)/float64(time.Since(t0)), ours.waits[1500], ours.waits[2970], ours.waits[2999], ours.worstWait())
	}
}
