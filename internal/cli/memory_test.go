package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// waitMemory waits for a command that has started. The returned function waits for its end and returns
// its peak memory in bytes, read from Linux while the process runs, or 0 on other systems. The resource
// usage of an ended process would include memory of its parent, from the time before exec.
func waitMemory(cmd *exec.Cmd) func() (peak int64, err error) {
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
		return peak, err
	}
}
