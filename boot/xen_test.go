package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPartsOfAGuestOfXen gives the answer that helps for what no machine boots without a hypervisor.
func TestPartsOfAGuestOfXen(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"App.x86_64-1.0.0.xenconfig", "App.x86_64-1.0.0.ext4", "App.x86_64-1.0.0-6.1.kernel", "Other.x86_64-1.0.0.ext4"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", 4096)), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := inspect(t.Context(), Options{Image: filepath.Join(dir, name)})
		if !errors.Is(err, ErrUnknown) {
			t.Fatalf("%s: %v", name, err)
		}
		if told := strings.HasSuffix(err.Error(), "xl create -c App.x86_64-1.0.0.xenconfig"); told == strings.HasPrefix(name, "Other") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
