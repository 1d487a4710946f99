package deb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Addition is packages on their way into a root tree that has dpkg, and none of them yet. It does what dpkg --unpack does, several times as fast. What is out
// of the ordinary is an error, and left to dpkg, which can do it and explains what is wrong: files of other packages that are to be replaced, owners and modes
// that the administrator has set, options of dpkg that are not known here. dpkg may always begin anew where an addition has failed.
type Addition struct {
	u        *unpacking
	archives []*Archive
	before   *existing
}

// Add opens the packages of the given files for the root tree in dir. The caller closes the addition.
func Add(ctx context.Context, dir string, names []string, opts Options) (_ *Addition, err error) {
	a := &Addition{archives: make([]*Archive, len(names)), u: newUnpacking(opts, len(names))}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.u.writer, err = openTree(dir); err != nil {
		return nil, err
	}
	if err := a.u.open(ctx, names, a.archives); err != nil {
		return nil, err
	}
	if a.before, err = a.u.writer.readStatus(); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, c := range a.u.controls {
		if a.before.names[c.Name()] || seen[c.Name()] {
			return nil, fmt.Errorf("the package %s is there already", c.Name())
		}
		seen[c.Name()] = true
	}
	if fd, err := a.u.writer.openFile("usr/bin/debsig-verify"); err == nil {
		return nil, errors.Join(errors.New("the tree's dpkg checks signatures of packages"), fd.Close())
	}
	options, err := a.u.writer.readConfig()
	if err != nil {
		return nil, err
	}
	a.u.filter, err = parseFilter(slices.Concat(options, opts.Paths))
	return a, err
}

// Close ends the addition.
func (a *Addition) Close() error {
	var errs []error
	for _, archive := range a.archives {
		if archive != nil {
			errs = append(errs, archive.Close())
		}
	}
	if a.u.writer != nil {
		errs = append(errs, a.u.writer.close())
	}
	return errors.Join(errs...)
}

// Controls are the packages, in the order of the files' names in which they were given.
func (a *Addition) Controls() []*Control { return a.u.controls }

// Incoming is the directory in the tree, with a slash at its beginning, that has a package's control files while what it wants to run before is running.
const Incoming = "/" + incomingDir

const incomingDir = adminDir + "/tmp.ci"

// Offer puts the control files of a package into [Incoming].
func (a *Addition) Offer(c *Control) error {
	if err := a.u.writer.removeDir(incomingDir); err != nil {
		return err
	}
	if err := a.u.writer.makeDir(incomingDir, 0o755); err != nil {
		return err
	}
	for name := range c.Files {
		if err := a.u.writer.writeControl(incomingDir+"/"+name, c, name); err != nil {
			return err
		}
	}
	return a.u.writer.writeFile(incomingDir+"/control", c.Text, 0o644)
}

// Unpack unpacks the packages and enters them into the database. Before, the caller has run their scripts named preinst.
func (a *Addition) Unpack(ctx context.Context) error {
	if err := a.u.writer.removeDir(incomingDir); err != nil {
		return err
	}
	if err := a.before.readFiles(a.u.writer); err != nil {
		return fmt.Errorf("reading the package database: %w", err)
	}
	a.u.existing = a.before
	if err := a.u.all(ctx, a.archives); err != nil {
		return err
	}
	if err := a.u.writeDatabase(a.u.controls); err != nil {
		return fmt.Errorf("writing the package database: %w", err)
	}
	return nil
}

// activate notes that a package changes a file that others may wait for, or something above it.
func (u *unpacking) activate(name string, c *Control) {
	if len(u.existing.interests) == 0 {
		return
	}
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		if u.existing.interests[name[:end]] {
			u.activated = appendNew(u.activated, activation{"/" + name[:end], c.InfoName()})
		}
	}
}

// activation is a trigger, and the package that waits until it was acted on; "-" is none.
type activation struct{ trigger, waits string }

func appendNew(list []activation, a activation) []activation {
	if slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}
