// Package testrepos makes signing keys, packages and repositories for tests, with the real tools of their formats, and serves them.
//
// Packages are tiny and take less than a tenth of a second each, so that every test makes its own.
package testrepos

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// Key is an OpenPGP signing key.
type Key struct {
	// Home is gpg's directory with the secret key, User the key's user id.
	Home, User string
	// Public is the file with the public key, ASCII-armored.
	Public string
}

// NewKey makes a key, which lasts as long as the test.
func NewKey(t testing.TB, name string) Key {
	t.Helper()
	testenv.NeedPrograms(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg-") // short: gpg's agent listens there
	must(t, err)
	t.Cleanup(func() {
		if err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run(); err != nil {
			t.Errorf("ending gpg's agent: %v", err)
		}
		must(t, os.RemoveAll(home))
	})
	k := Key{Home: home, User: name + "@example.org", Public: filepath.Join(home, "public.asc")}
	k.gpg(t, "--quick-generate-key", name+" <"+k.User+">", "ed25519", "sign", "never")
	k.gpg(t, "--armor", "--output", k.Public, "--export")
	return k
}

// Detach signs a file: the signature is ASCII-armored, in a file of its own.
func (k Key) Detach(t testing.TB, file, signature string) {
	t.Helper()
	must(t, removeIfThere(signature))
	k.gpg(t, "--armor", "--output", signature, "--detach-sign", file)
}

// gpg runs gpg with the key.
func (k Key) gpg(t testing.TB, args ...string) {
	t.Helper()
	testenv.Run(t, "gpg", append([]string{"--homedir", k.Home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
}

// must ends the test at an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func removeIfThere(name string) error {
	err := os.Remove(name)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// write writes a file that everybody may read, and the directories above it.
func write(t testing.TB, name, text string, perm os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), perm))
	must(t, os.Chmod(name, perm))
}
