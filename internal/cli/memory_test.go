package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// waitMemory waits for a command that has started. The function that it returns
// ends with it, and says how much memory it took at the most, in bytes, as Linux
// tells it while the process lives; elsewhere 0. The resource usage of a process
// that has ended would count its parent's memory, from before it was another
// program.
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
