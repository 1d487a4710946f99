package deb

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The parts of dpkg's database in a tree (dpkg(1), FILES).
const (
	adminDir    = "var/lib/dpkg"
	infoDir     = adminDir + "/info"
	triggersDir = adminDir + "/triggers"
)

// InfoName is what the names of the package's files in dpkg's database begin with.
func (c *Control) InfoName() string {
	if c.Fields["Multi-Arch"] == "same" {
		return c.Name() + ":" + c.Fields["Architecture"]
	}
	return c.Name()
}

// writeDatabase says that the packages are unpacked.
func (u *unpacking) writeDatabase(controls []*Control) error {
	for _, dir := range []string{infoDir, adminDir + "/updates", triggersDir} {
		if err := u.writer.makeDir(dir, 0o755); err != nil {
			return err
		}
	}
	var status bytes.Buffer
	for _, c := range controls {
		status.Write(stanza(c))
		name := infoDir + "/" + c.InfoName()
		if err := u.writer.writeFile(name+".list", []byte(strings.Join(u.files[c], "\n")+"\n"), 0o644); err != nil {
			return err
		}
		for file, data := range c.Files {
			perm := uint32(0o644)
			if slices.Contains([]string{"preinst", "postinst", "prerm", "postrm", "config"}, file) {
				perm = 0o755
			}
			if err := u.writer.writeFile(name+"."+file, data, perm); err != nil {
				return err
			}
		}
	}
	for name, data := range map[string][]byte{adminDir + "/status": status.Bytes(), adminDir + "/available": nil, infoDir + "/format": []byte("1\n")} {
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
// noted as dpkg does it.
func (u *unpacking) writeTriggers(controls []*Control) error {
	files := map[string][]byte{triggersDir + "/File": nil, triggersDir + "/Unincorp": nil}
	for _, c := range controls {
		for line := range strings.Lines(string(c.Files["triggers"])) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) != 2 || !strings.HasPrefix(words[0], "interest") {
				continue
			}
			who := c.Name()
			if c.Fields["Multi-Arch"] == "same" {
				who = c.InfoName()
			}
			if words[0] == "interest-noawait" {
				who += "/noawait"
			}
			if strings.HasPrefix(words[1], "/") {
				files[triggersDir+"/File"] = fmt.Appendf(files[triggersDir+"/File"], "%s %s\n", words[1], who)
				continue
			}
			name := triggersDir + "/" + path.Base(words[1])
			files[name] = append(files[name], who+"\n"...)
		}
	}
	for name, data := range files {
		if err := u.writer.writeFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
