package layers

import (
	"fmt"
	"os"
	"testing"

	"github.com/imgbuild/imgbuild/internal/userns"
)

// TestMain brings an ordinary user into a user namespace, as the program does, so that owners can be tested.
func TestMain(m *testing.M) {
	if err := userns.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "testing without a user namespace:", err)
	}
	os.Exit(m.Run())
}
