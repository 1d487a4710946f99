package apt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/deb"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Unpacking is the largest part of an installation, and dpkg does it one file after another with three processes for each package. So apt gets a stand-in for dpkg. Asked
// to unpack, it asks this program through two pipes (fifo(7)), which unpacks from outside and enters the packages into dpkg's database. All else, and
// what this program declines, it leaves to dpkg.
const (
	unpackDir = insideDir + "/unpack"
	dpkgFile  = insideConf + "/dpkg"
)

// dpkgScript is the stand-in. Its last line is also the answer to a script of a package that fails: dpkg runs it again, and says what is wrong.
const dpkgScript = `#!/bin/sh
case " $* " in *" --unpack "*) ;; *) exec dpkg "$@" ;; esac
ask() {
	echo "$1" > ` + unpackDir + `/ask && read -r answer package arch version < ` + unpackDir + `/answer
}
printf '%s\n' "$@" > ` + unpackDir + `/args && ask unpack
while [ "$answer" = preinst ]; do
	DPKG_MAINTSCRIPT_PACKAGE=$package DPKG_MAINTSCRIPT_ARCH=$arch DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_MAINTSCRIPT_DEBUG=0 \
		DPKG_RUNNING_VERSION=$version DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= ` + deb.Incoming + `/preinst install || break
	ask next
done
[ "$answer" = done ] || exec dpkg "$@"
[ -z "$package" ] || while read -r line; do echo "$line"; done < ` + unpackDir + `/report > "/proc/self/fd/$package"
`

// unpacker is this program's side of the pipes.
type unpacker struct {
	session     *session
	dir         string            // of the root tree
	files       map[string]string // the packages on this machine, by their names in the sandbox
	swaps       map[string]string // quick forms that dpkg can read, by the names on this machine of what they replace
	steps       progress.Task
	ask, answer *os.File
	adding      *deb.Addition  // what is being done; nil is nothing
	before      []*deb.Control // those whose scripts have to run before
	statusFD    string         // what dpkg was to report to
	version     string         // of dpkg
}

// newUnpacker makes the pipes, for packages whose quick forms are given.
func (s *session) newUnpacker(ctx context.Context, downloads []download, quick map[string]string) (*unpacker, error) {
	u := &unpacker{session: s, files: map[string]string{}, swaps: map[string]string{}, steps: progress.Discard.Start("", 0, progress.Items)}
	var err error
	if u.version, err = s.dpkgVersion(ctx); err != nil {
		return nil, err
	}
	for _, d := range downloads {
		inside := insideDir + "/cache/archives/" + d.File
		if name, ok := strings.CutPrefix(d.uri, "file:"); ok {
			if plain, err := url.PathUnescape(name); err == nil {
				inside = path.Clean("/" + plain)
			}
		}
		original := s.path(d)
		u.files[inside] = original
		if from := quick[d.File]; from != "" {
			u.files[inside] = from
			if readsZstd(u.version) {
				u.swaps[original] = from
			}
		}
	}
	if u.dir, err = s.Unpacked(ctx); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "unpack")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, err
	}
	open := func(name string) (*os.File, error) {
		name = filepath.Join(dir, name)
		if err := unix.Mkfifo(name, 0o600); err != nil {
			return nil, &os.PathError{Op: "mkfifo", Path: name, Err: err}
		}
		return os.OpenFile(name, os.O_RDWR, 0) // for both, so that neither side waits for the other to open it
	}
	if u.ask, err = open("ask"); err != nil {
		return nil, err
	}
	if u.answer, err = open("answer"); err != nil {
		return nil, errors.Join(err, u.ask.Close())
	}
	return u, nil
}

// standIn is the stand-in for dpkg, where apt works and where dpkg does.
func standIn(p place) []sandbox.File {
	files := []sandbox.File{{Path: dpkgFile, Data: []byte(dpkgScript), Perm: 0o755}}
	if p == outside {
		files = append(files, sandbox.File{Path: packages.TargetDir + dpkgFile, Data: []byte(dpkgScript), Perm: 0o755})
	}
	return files
}

// serve answers until the function that it returns is called.
func (u *unpacker) serve(ctx context.Context) (stop func() error) {
	done := make(chan error)
	go func() {
		for requests := bufio.NewScanner(u.ask); requests.Scan(); {
			if _, err := fmt.Fprintln(u.answer, u.handle(ctx, requests.Text())); err != nil {
				break // it is closed
			}
		}
		done <- u.end()
	}()
	return func() error {
		return errors.Join(u.ask.Close(), u.answer.Close(), <-done)
	}
}

// end ends what is being done.
func (u *unpacker) end() error {
	if u.adding == nil {
		return nil
	}
	err := u.adding.Close()
	u.adding, u.before = nil, nil
	return err
}

// handle answers a request: with "preinst" and what that script is told, "done" and the file descriptor that takes a report, or "no".
func (u *unpacker) handle(ctx context.Context, request string) string {
	answer, err := u.step(ctx, request)
	if err == nil {
		return answer
	}
	u.session.Log.Debug("dpkg is to unpack packages itself", "reason", err)
	if err := errors.Join(u.end(), u.swap()); err != nil {
		u.session.Log.Debug("dpkg is to use packages as they are", "reason", err)
	}
	return "no"
}

func (u *unpacker) step(ctx context.Context, request string) (string, error) {
	if request == "unpack" {
		if err := u.begin(ctx); err != nil {
			return "", err
		}
	}
	if u.adding == nil {
		return "", fmt.Errorf("the request %q comes at the wrong time", request)
	}
	if len(u.before) > 0 {
		c := u.before[0]
		u.before = u.before[1:]
		return fmt.Sprintf("preinst %s %s %s", c.Name(), c.Fields["Architecture"], u.version), u.adding.Offer(c)
	}
	if err := u.adding.Unpack(ctx); err != nil {
		return "", err
	}
	return "done " + u.statusFD, errors.Join(u.report(), u.end())
}

// report writes what dpkg tells apt of its progress (--status-fd).
func (u *unpacker) report() error {
	var lines strings.Builder
	for _, c := range u.adding.Controls() {
		for _, state := range []string{"half-installed", "unpacked"} {
			fmt.Fprintf(&lines, "status: %s: %s\n", c.InfoName(), state)
		}
	}
	return os.WriteFile(filepath.Join(u.session.dir, "unpack/report"), []byte(lines.String()), 0o644)
}

// begin opens the packages that are to be unpacked.
func (u *unpacker) begin(ctx context.Context) error {
	if err := u.end(); err != nil {
		return err
	}
	args, err := os.ReadFile(filepath.Join(u.session.dir, "unpack/args"))
	if err != nil {
		return err
	}
	known := append(u.session.dpkgOptions(), "--unpack", "--auto-deconfigure", "--no-triggers")
	u.statusFD = ""
	var names []string
	list := strings.Split(strings.TrimSuffix(string(args), "\n"), "\n")
	for i := 0; i < len(list); i++ {
		switch name, there := u.files[list[i]]; {
		case there:
			names = append(names, name)
		case list[i] == "--status-fd" && i+1 < len(list):
			i++
			u.statusFD = list[i]
		case !slices.Contains(known, list[i]):
			return fmt.Errorf("%s is not known here", list[i])
		}
	}
	options := deb.Options{Paths: u.session.dpkgOptions(), Unpacked: func() { u.steps.Add(1) }}
	if u.adding, err = deb.Add(ctx, u.dir, names, options); err != nil {
		return err
	}
	for _, c := range u.adding.Controls() {
		if _, ok := c.Files["preinst"]; ok {
			u.before = append(u.before, c)
		}
	}
	return nil
}

// swap puts quick forms of packages where dpkg looks for the packages.
func (u *unpacker) swap() error {
	for original, quick := range u.swaps {
		if filepath.Dir(original) != filepath.Join(u.session.dir, "cache/archives") {
			continue
		}
		fresh := original + ".quick"
		if err := packages.LinkOrCopy(quick, fresh); err != nil {
			return err
		}
		if err := os.Rename(fresh, original); err != nil {
			return err
		}
	}
	clear(u.swaps)
	return nil
}
