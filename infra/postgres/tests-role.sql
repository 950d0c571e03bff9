-- For the tests that are run in the containers: they make databases of their own on this server, and cannot
-- enter the one of the service.
CREATE ROLE tests LOGIN CREATEDB PASSWORD 'tests';
REVOKE CONNECT, TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
