# Sends "found" to every connection. For a container that has Perl and no Python.
use IO::Socket::INET;

my $listener = IO::Socket::INET->new(LocalPort => 6883, Listen => 5) or die;
while (my $caller = $listener->accept) {
    print $caller "found";
    close $caller;
}
