package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Docker is a Docker engine of a test's own.
type Docker struct{ socket string }

// StartDocker starts one with nothing in it, which ends with the test. It needs the superuser; containers run without a network:
// docker run --network none.
func StartDocker(t testing.TB) Docker {
	t.Helper()
	NeedRealRoot(t)
	engine := NeedProgram(t, "dockerd")
	NeedProgram(t, "docker")
	dir, err := os.MkdirTemp("", "docker-") // the name of a socket may have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := Docker{filepath.Join(dir, "socket")}
	var log bytes.Buffer
	cmd := exec.Command(engine, "--host", "unix://"+d.socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--iptables=false", "--ip6tables=false", "--bridge=none")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for range 300 {
		if exec.Command("docker", "--host", "unix://"+d.socket, "version").Run() == nil {
			return d
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dockerd ended: %v\n%s", err, log.Bytes())
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("dockerd does not answer")
	return d
}

// Run runs a command of the docker client and returns what it prints.
func (d Docker) Run(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, "docker", append([]string{"--host", "unix://" + d.socket}, args...)...)
}
