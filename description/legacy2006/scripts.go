package legacy2006

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Folder is where the old scripts lie beside the upgraded description, and so in /image of the root tree.
const Folder = "legacy2006"

// installed is a function that finds out whether a package is installed, whatever its package manager.
const installed = `installed() {
    if command -v rpm > /dev/null && rpm -q "$1" > /dev/null 2>&1; then return 0; fi
    if command -v dpkg-query > /dev/null && dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | grep -qx installed; then return 0; fi
    if command -v pacman > /dev/null && pacman -Q "$1" > /dev/null 2>&1; then return 0; fi
    command -v apk > /dev/null && apk info -e "$1" > /dev/null 2>&1
}
`

// run is a function that runs a script as KIWI did.
const run = `run() {
    if [ -x "$1" ]; then "$1"; elif command -v bash > /dev/null; then bash "$1"; else sh "$1"; fi || { code=$?; echo "$1 failed" >&2; exit $code; }
}
`

// files returns the scripts of today, which run the old ones: config.sh first and then those in config/ whose package is installed.
func (d *document) files() map[string]File {
	if len(d.scripts) == 0 {
		return nil
	}
	files := map[string]File{}
	var config, images, packages []string
	for _, s := range d.scripts {
		files[Folder+"/"+s.name] = s.file
		full := shellQuote("/image/" + Folder + "/" + s.name)
		switch s.name {
		case "config.sh":
			config = append(config, "run "+full)
		case "images.sh":
			images = append(images, "run "+full)
		default:
			packages = append(packages, fmt.Sprintf("if installed %s; then run %s; fi", shellQuote(path.Base(s.name)), full))
		}
	}
	if len(packages) > 0 {
		config = append(config, installed+strings.Join(packages, "\n"))
	}
	for name, commands := range map[string][]string{"config.sh": config, "images.sh": images} {
		if len(commands) > 0 {
			text := "#!/bin/sh\n# Made of a description in KIWI's format of 2006: its scripts find the keys of <image> as variables.\n" +
				d.exports() + run + strings.Join(commands, "\n") + "\n"
			files[name] = File{[]byte(text), 0o755}
		}
	}
	return files
}

// exports sets the variables that scripts found in /.profile.
func (d *document) exports() string {
	var b strings.Builder
	isName := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	for _, key := range slices.Sorted(maps.Keys(d.variables)) {
		if isName.MatchString(key) {
			fmt.Fprintf(&b, "export %s=%s\n", key, shellQuote(d.variables[key]))
		}
	}
	return b.String()
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
