package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// startMeasured starts a command and measures its memory. The returned function waits until the command ends, and
// returns its peak memory in bytes, or 0 on systems other than Linux. Its error has the command's messages, unless the
// caller has set cmd.Stderr. startMeasured does not use the resource usage of the ended process, which includes memory
// of its parent from before exec.
func startMeasured(t *testing.T, cmd *exec.Cmd) func() (peak int64, err error) {
	t.Helper()
	var stderr bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended, done := make(chan error, 1), make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peak := int64(0)
	go func() {
		for len(ended) == 0 {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if _, after, ok := bytes.Cut(status, []byte("VmHWM:")); ok && err == nil {
				var kB int64
				if _, err := fmt.Sscan(string(after[:min(len(after), 30)]), &kB); err == nil {
					peak = max(peak, kB<<10)
				}
			}
			time.Sleep(time.Millisecond)
		}
		done <- <-ended
	}()
	return func() (int64, error) {
		err := <-done
		if err != nil && stderr.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, &stderr)
		}
		return peak, err
	}
}
