package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// waitMemory starts to measure the memory of a running command. The returned function waits until the
// command ends, and returns its peak memory in bytes, or 0 on systems other than Linux. waitMemory does not
// use the resource usage of the ended process, which includes memory of its parent from before exec.
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
