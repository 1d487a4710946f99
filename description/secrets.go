package description

// The printed forms of values that hold secrets leave these out, so that a
// model may be logged.

// String returns the name of the account.
func (u User) String() string { return "user " + u.Name }

// String returns the alias of the repository and its source without
// credentials.
func (r Repository) String() string {
	return "repository " + r.Alias + " " + withoutCredentials(r.Source)
}
