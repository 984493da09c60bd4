package planting

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// RunTests runs a compiled test binary in dir and returns its output. After the limit, it kills the tests and their
// children and returns [context.DeadlineExceeded]. Programs that the tests build have the same mutants, unless p is nil.
func (p *Planted) RunTests(binary, dir string, limit time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	if p != nil {
		cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+p.Overlay())
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	return out, err
}
