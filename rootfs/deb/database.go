package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The parts of dpkg's database in a tree (dpkg(1), FILES).
const (
	adminDir    = "var/lib/dpkg"
	infoDir     = adminDir + "/info"
	triggersDir = adminDir + "/triggers"
)

// InfoName is what the names of the package's files in dpkg's database begin with, and what it is called in the files about triggers.
func (c *Control) InfoName() string {
	if c.Fields["Multi-Arch"] == "same" {
		return c.Name() + ":" + c.Fields["Architecture"]
	}
	return c.Name()
}

// sumsFile is the control file with the MD5 of the package's files. dpkg writes it where the package lacks it.
const sumsFile = "md5sums"

// addSums gives the package the sums of its files, in the order of a list.
func (c *Control) addSums(list []string, sums map[string]string) {
	var b bytes.Buffer
	for _, name := range list {
		if sum := sums[name[1:]]; sum != "" {
			fmt.Fprintf(&b, "%s  %s\n", sum, name[1:])
		}
	}
	c.Files[sumsFile], c.headers[sumsFile] = b.Bytes(), &tar.Header{Mode: 0o644}
}

// writeDatabase says that the packages are unpacked.
func (u *unpacking) writeDatabase(controls []*Control) error {
	for _, dir := range []string{infoDir, adminDir + "/updates", triggersDir} {
		if err := u.writer.makeDir(dir, 0o755); err != nil {
			return err
		}
	}
	status := bytes.NewBuffer(u.existing.status)
	for _, c := range controls {
		status.Write(stanza(c))
		name := infoDir + "/" + c.InfoName()
		if err := u.writer.writeFile(name+".list", []byte(strings.Join(u.files[c], "\n")+"\n"), 0o644); err != nil {
			return err
		}
		for file := range c.Files {
			if err := u.writer.writeControl(name+"."+file, c, file); err != nil {
				return err
			}
		}
	}
	files := map[string][]byte{adminDir + "/status": status.Bytes()}
	if u.existing.names == nil { // a new database
		files[adminDir+"/available"], files[infoDir+"/format"] = nil, []byte("1\n")
	}
	for name, data := range files {
		if err := u.writer.writeFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return u.writeTriggers(controls)
}

// stanza is the package's part of the status file. The sums of its settings are entered when dpkg puts them in their place.
func stanza(c *Control) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Package: %s\nStatus: install ok unpacked\n", c.Name())
	skip := false
	for line := range strings.Lines(string(c.Text)) {
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			field, _, _ := strings.Cut(line, ":")
			skip = slices.Contains([]string{"package", "status", "conffiles"}, strings.ToLower(field)) || strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#")
		}
		if !skip {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	if names := conffiles(c); len(names) > 0 {
		b.WriteString("Conffiles:\n")
		for _, name := range names {
			fmt.Fprintf(&b, " %s newconffile\n", name)
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

// writeTriggers notes which packages wait for what (deb-triggers(5)): for changes of files in one file, for anything else in a file each. The options are
// noted as dpkg does it. What was waited for and has happened is noted in a file of its own, which dpkg reads when it starts the next time.
func (u *unpacking) writeTriggers(controls []*Control) error {
	const interests, happened = triggersDir + "/File", triggersDir + "/Unincorp"
	files := map[string][]byte{interests: nil, happened: nil}
	for _, c := range controls {
		for line := range strings.Lines(string(c.Files["triggers"])) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) != 2 {
				continue
			}
			who := c.InfoName()
			switch what, option, _ := strings.Cut(words[0], "-"); {
			case what == "activate" && option == "noawait":
				u.activated = appendNew(u.activated, activation{words[1], "-"})
			case what == "activate":
				u.activated = appendNew(u.activated, activation{words[1], who})
			case what != "interest":
			default:
				if option == "noawait" {
					who += "/noawait"
				}
				if strings.HasPrefix(words[1], "/") {
					files[interests] = fmt.Appendf(files[interests], "%s %s\n", words[1], who)
					continue
				}
				name := triggersDir + "/" + path.Base(words[1])
				files[name] = append(files[name], who+"\n"...)
			}
		}
	}
	if u.existing.names != nil { // in a new tree nobody can have waited
		for _, a := range u.activated {
			files[happened] = fmt.Appendf(files[happened], "%s %s\n", a.trigger, a.waits)
		}
	}
	for name, data := range files {
		before, err := u.writer.readFile(name, maxList)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err == nil && len(data) == 0 {
			continue
		}
		if err := u.writer.writeFile(name, append(before, data...), 0o644); err != nil {
			return err
		}
	}
	return nil
}
