// consumer.cpp: the same host as C++17.
#include "consumer.c"
