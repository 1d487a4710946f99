package podman

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// churn is what the process does that is killed: for ever put containers, and say which are in.
func churn(spec string) error {
	s, err := Open(context.Background(), Options{Spec: spec})
	if err != nil {
		return err
	}
	var t testing.T // for methods that report nothing unless something fails
	for i := 0; ; i++ {
		name := fmt.Sprintf("n%d:%d", os.Getpid(), i)
		img := testImage(&t, testImage(&t, nil, "a", "base"), fmt.Sprint(os.Getpid(), i), strings.Repeat("x", 1_000_000))
		if err := s.PutImage(context.Background(), name, img); err != nil {
			return err
		}
		fmt.Println(name)
	}
}

// TestKilled kills a writing process at random moments: what it had finished is there and can be read, and the next process goes on.
func TestKilled(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var want []string
		for range 6 {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "PODMAN_TEST_CHURN="+p.spec())
			cmd.Stderr = os.Stderr
			var out strings.Builder
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(50+rand.IntN(300)) * time.Millisecond)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			lines := strings.Split(out.String(), "\n")
			want = append(want, lines[:len(lines)-1]...)
		}
		s := openTest(t, p)
		err := s.Update(t.Context(), "after", func(context.Context, v1.Image) (v1.Image, error) { return testImage(t, nil, "b", "after"), nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append(want, "after") {
			img, err := s.Image(t.Context(), name)
			if err != nil {
				t.Error(err)
				continue
			}
			tars(t, img)
		}
		t.Logf("%d containers were put", len(want))
	})
}
